"""Token trees of any shape."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jeton.errors import ConfigError
from jeton.lm.cache import visible_to_nodes
from jeton.lm.tree import TokenTree

paths_lists = st.lists(st.lists(st.integers(0, 3), max_size=5), max_size=8)


@st.composite
def trees(draw, max_nodes: int = 12) -> TokenTree:
    num_nodes = draw(st.integers(0, max_nodes))
    parents = [draw(st.integers(-1, node - 1)) for node in range(num_nodes)]
    token_ids = draw(st.lists(st.integers(0, 9), min_size=num_nodes, max_size=num_nodes))
    logq = draw(st.none() | st.lists(st.floats(-9, 0), min_size=num_nodes, max_size=num_nodes))
    return TokenTree(token_ids, parents, logq)


def all_paths(tree: TokenTree) -> set[tuple[int, ...]]:
    return {tuple(tree.token_ids[i] for i in tree.path_to(node)) for node in range(len(tree))}


@settings(derandomize=True)
@given(trees())
def test_structure_agrees_with_walking_up(tree):
    mask = tree.ancestor_mask()
    for node in range(len(tree)):
        path = tree.path_to(node)
        assert path[-1] == node
        assert tree.is_path(path)
        assert tree.depths[node] == len(path) - 1
        assert set(np.flatnonzero(mask[node])) == set(path)
        assert all(tree.parents[child] == node for child in tree.children(node))
    assert sum(len(tree.children(node)) for node in range(-1, len(tree))) == len(tree)
    assert tree.is_chain == (tree.depths == list(range(len(tree))))
    assert tree.is_path([])


@settings(derandomize=True)
@given(paths_lists)
def test_from_paths_holds_every_prefix_once(paths):
    tree = TokenTree.from_paths(paths)
    expected = {tuple(path[:end]) for path in paths for end in range(1, len(path) + 1)}
    assert all_paths(tree) == expected
    assert len(tree) == len(expected)


@settings(derandomize=True)
@given(trees(), trees())
def test_merge_is_the_union_of_paths(left, right):
    merged = TokenTree.merge([left, right])
    assert all_paths(merged) == all_paths(left) | all_paths(right)
    assert len(merged) == len(all_paths(merged))
    assert TokenTree.merge([merged, merged]) == merged


@settings(derandomize=True)
@given(trees(), st.integers(0, 14))
def test_prune_keeps_the_best_and_their_ancestors(tree, budget):
    pruned = tree.prune(budget)
    assert len(pruned) == min(budget, len(tree))
    assert all_paths(pruned) <= all_paths(tree)
    if tree.logq is not None and 0 < budget < len(tree):
        assert pruned.logq is not None
        kept = sorted(pruned.path_logq, reverse=True)
        best = sorted(tree.path_logq, reverse=True)[:budget]
        assert kept == pytest.approx(best)


@settings(derandomize=True)
@given(trees(), st.integers(0, 9), st.none() | st.integers(1, 6))
def test_visible_keys_follow_position_and_ancestry(tree, length, window):
    allowed = visible_to_nodes(tree, length, window)
    first = 0 if window is None else max(length - window + 1, 0)
    assert allowed.shape == (len(tree), length - first + len(tree))
    for node in range(len(tree)):
        position = length + tree.depths[node]
        for column in range(allowed.shape[1]):
            slot = first + column
            if slot < length:
                is_before, key_position = True, slot
            else:
                is_before = slot - length in tree.path_to(node)
                key_position = length + tree.depths[slot - length]
            is_near = window is None or key_position > position - window
            assert allowed[node, column] == (is_before and is_near)
        if window is not None:  # nothing that a node needs was left without a column
            assert first == 0 or first - 1 <= position - window


def test_bad_trees_are_refused():
    for token_ids, parents in (([1], [0]), ([1], [-2]), ([1, 2], [-1, 1]), ([1, 2], [-1])):
        with pytest.raises(ConfigError):
            TokenTree(token_ids, parents)
    with pytest.raises(ConfigError, match="logq"):
        TokenTree([1], [-1], logq=[])
    tree = TokenTree.chain([1, 2, 3])
    with pytest.raises(ConfigError):
        tree.select([1])
    with pytest.raises(ConfigError):
        tree.select([1, 0])
    with pytest.raises(ConfigError):
        tree.prune(-1)
    with pytest.raises(ConfigError):
        tree.prune(1, [0.0])


def test_sources_and_logq_survive():
    left = TokenTree.chain([5, 6], logq=[-1.0, -2.0], source=0)
    right = TokenTree.chain([5, 7], logq=[-0.5, -0.1], source=1)
    merged = TokenTree.merge([left, TokenTree([], []), right])
    assert merged == TokenTree([5, 6, 7], [-1, 0, 0], [-1.0, -2.0, -0.1], [0, 0, 1])
    assert merged.prune(2) == TokenTree([5, 7], [-1, 0], [-1.0, -0.1], [0, 1])
    assert TokenTree.merge([left, TokenTree.chain([9])]).logq is None
