"""RASD: what was retrieved, pruned by the draft model's confidence, fused with its own tree.

Source: Quan et al. 2025, https://arxiv.org/abs/2503.03434, section 3.2 (retrieval tree, pruned by
the draft model's distribution over its first tokens) and 3.3 (fusion by longest common prefixes).
Differs from the source: retrieval reads the text so far (a trie of its branches) and, where one is
given, a datastore; retrieved paths that are left count by their frequencies.
Cost: one forward of the draft model per level, and the retrieval.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from jeton.decoding.best_first import Children, grow
from jeton.decoding.contract import COUPLED, DraftContext, Step
from jeton.decoding.draft_state import DraftState
from jeton.decoding.heads import Guesses, grow_by_levels
from jeton.decoding.store import Datastore
from jeton.decoding.trie import Trie
from jeton.errors import ConfigError, UnsupportedModelError
from jeton.lm.tree import TokenTree

_MAX_MATCHES = 64  # places of the datastore that are read, as in REST
_BRANCHING = 4  # guesses of the draft model per node


@dataclass(slots=True)
class RASD:
    """Options of the drafter.

    Attributes:
        min_probability: Retrieved first tokens that the draft model gives less are pruned.
        depth: Levels of the draft model's tree, one forward each.
        max_prefix: Longest context that is looked up.
        branch_length: Longest retrieved continuation.
        store: Path of a datastore; empty for the text so far alone.
        datastore: The store itself, instead of a path.
    """

    min_probability: float = 0.02
    depth: int = 3
    max_prefix: int = 4
    branch_length: int = 8
    store: str = ""
    datastore: Datastore | None = None

    needs: ClassVar[frozenset[str]] = frozenset({"draft_model"})
    makes_trees: ClassVar[bool] = True
    fixes_draws: ClassVar[bool] = False

    _state: DraftState | None = field(default=None, init=False, repr=False)
    _root: Trie = field(default_factory=Trie, init=False, repr=False)
    _open: list[Trie] = field(default_factory=list, init=False, repr=False)
    _last: list[int] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if min(self.depth, self.max_prefix, self.branch_length) < 1:
            raise ConfigError("rasd needs depth, max_prefix and branch_length of at least 1")
        if not 0 <= self.min_probability <= 1:
            raise ConfigError(f"min_probability must be in [0, 1], got {self.min_probability}")

    def begin(self, context: DraftContext) -> None:
        """Start with an empty cache and the prompt's branches."""
        self._state = DraftState(replace(context, draws=COUPLED))
        if not self._state.runner.supports_trees:
            raise UnsupportedModelError(
                f"the draft model {context.draft_model.name} takes no token trees",
                hint="use the drafter draft_model",
            )
        if self.store and self.datastore is None:
            self.datastore = Datastore.load(self.store)
        self._root, self._open, self._last = Trie(), [], []
        self._extend(context.token_ids)

    def propose(self, num_draft_tokens: int) -> TokenTree:
        """Return both trees as one."""
        state = self._state
        assert state is not None, "begin comes first"
        levels = min(self.depth, state.room(num_draft_tokens))
        if not levels:
            return TokenTree.chain([])
        first = state.law(state.read(), [])
        tree: list[list[int]] = []

        def guesses(index: int, paths: list[list[int]], count: int) -> Guesses:
            if index == 0:
                return [_best(first, count)]
            wanted = TokenTree.from_paths([*tree, *paths])
            tree.extend(paths)
            rows = state.logits_of(wanted)
            found = []
            for path in paths:
                law = state.law(rows[_node_of(wanted, path)], path)
                found.append(_best(law, count))
            return found

        own = grow_by_levels(
            guesses, num_draft_tokens, levels, beam=_BRANCHING, branching=_BRANCHING
        )
        retrieved = self._retrieved(num_draft_tokens, first)
        # What was retrieved and is likely goes first: its nodes keep the retrieval's figures.
        parts = [
            TokenTree(part.token_ids, part.parents, part.logq, [source] * len(part))
            for source, part in enumerate((retrieved, own))
        ]
        return TokenTree.merge(parts).prune(num_draft_tokens)

    def _retrieved(self, budget: int, first: Tensor) -> TokenTree:
        """Return the retrieval tree without first tokens that the draft model finds unlikely."""
        root = self._find()
        if root is None:
            return TokenTree.chain([])
        likely = {token for token in root.below if float(first[token]) >= self.min_probability}

        def expand(node: Trie) -> Children:
            if node is not root:
                return node.children()
            return [child for child in node.children() if child[0] in likely]

        return grow(root, expand, budget, self.branch_length)

    def _find(self) -> Trie | None:
        """Return the continuations of the longest known context."""
        limit = min(self.max_prefix, len(self._last))
        for length in range(limit, 0, -1):
            if self.datastore is not None:
                places = self.datastore.find(self._last[-length:])
                if len(places):
                    return self._branches(places.tolist(), length)
            node = self._root.find(self._last[-length:])
            if node is not None and node.below:
                return node
        return None

    def _branches(self, places: Sequence[int], length: int) -> Trie:
        """Return the trie of what stands behind some places of the store."""
        assert self.datastore is not None
        assert self._state is not None
        root = Trie()
        for start in places[:: -(-len(places) // _MAX_MATCHES)]:
            node = root
            for token_id in self.datastore.continuation(int(start) + length, self.branch_length):
                if token_id >= self._state.vocab_size:
                    break
                node = node.add(token_id)
        return root

    def observe(self, step: Step) -> None:
        """Follow the target and store what was decided."""
        assert self._state is not None
        self._state.observe(step)
        self._extend(step.token_ids)

    def _extend(self, token_ids: Sequence[int]) -> None:
        longest = self.max_prefix + self.branch_length
        for token_id in token_ids:
            self._open = [node.add(token_id) for node in [*self._open, self._root]]
            del self._open[: max(0, len(self._open) - longest + 1)]
        self._last = [*self._last, *token_ids][-self.max_prefix :]


def _best(law: Tensor, count: int) -> tuple[list[int], list[float]]:
    """Return the likeliest tokens with their logprobs."""
    found = law.topk(min(count, len(law)))
    shares = found.values.clamp_min(math.exp(-50)).log()
    return found.indices.tolist(), torch.clamp(shares, max=0.0).tolist()


def _node_of(tree: TokenTree, path: list[int]) -> int:
    """Return the node at the end of a path of tokens."""
    node = -1
    for token in path:
        node = next(c for c in tree.children(node) if tree.token_ids[c] == token)
    return node
