"""Texts decoded side by side get the tokens that they get alone."""

import contextlib
import functools
import random

import pytest
import torch

from jeton.decoding.batch import BatchLoop, generate_batch
from jeton.decoding.contract import Sampling
from jeton.decoding.create import create_drafter, default_verifier
from jeton.decoding.engine import DecodingLoop
from jeton.decoding.registry import DRAFTERS
from jeton.errors import ConfigError
from jeton.lm.batch import BatchRunner
from jeton.lm.pack import packed
from jeton.lm.runner import Runner
from jeton.lm.tree import TokenTree
from jeton.testing.decoding import Adversary, Watched, random_prompt, reference_ids
from jeton.testing.decoding import tiny_language_model as tiny
from jeton.testing.models import CHAIN_ONLY_FAMILIES, FAMILIES

LENGTHS = [3, 17, 9, 12]
NEW = 14


@functools.cache
def lm_of(family):
    return tiny(family)


@functools.cache
def prompts_of(count):
    rng = random.Random(3)
    return [random_prompt(rng, length, 61) for length in LENGTHS[:count]]


@functools.cache
def right_of(family, count, temperature, stops=()):
    sampling = Sampling(temperature=temperature, seed=7)
    return [
        reference_ids(lm_of(family), p, max_new_tokens=NEW, sampling=sampling, stop_ids=stops)
        for p in prompts_of(count)
    ]


def check(family, drafters, *, temperature=0.0, stops=(), num_draft_tokens=6):
    lm, count = lm_of(family), len(drafters)
    sampling = Sampling(temperature=temperature, seed=7)
    runner = Runner(lm.model)
    watched = [None if d is None else Watched(d, num_draft_tokens) for d in drafters]
    loops = [
        DecodingLoop(
            lm,
            drafter=drafter,
            verifier=default_verifier(sampling),
            sampling=sampling,
            num_draft_tokens=num_draft_tokens,
            runner=runner,
        )
        for drafter in watched
    ]
    batch = BatchLoop(loops)
    found = [[] for _ in drafters]
    for index, new in batch.run(prompts_of(count), NEW, frozenset(stops)):
        found[index].extend(new)
    assert found == right_of(family, count, temperature, tuple(stops))
    for drafter, ids in zip(watched, found, strict=True):
        if drafter is not None:
            drafter.check_observed(ids)
    return batch


def adversaries(family, count, temperature=0.0, **options):
    texts = right_of(family, count, temperature)
    return [
        Adversary([*p, *t], seed=i, **options)
        for i, (p, t) in enumerate(zip(prompts_of(count), texts, strict=True))
    ]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_random_trees_change_nothing(family, temperature):
    batch = check(family, adversaries(family, 4, temperature), temperature=temperature)
    assert batch.is_batched == (family not in ("mistral", "gemma2", "gemma3", "phi3"))
    if batch.is_batched:
        assert sum(loop.stats.num_accepted for loop in batch.loops) > 0


@pytest.mark.parametrize("family", CHAIN_ONLY_FAMILIES)
def test_recurrent_models_go_one_by_one(family):
    batch = check(family, adversaries(family, 2, makes_trees=False))
    assert not batch.is_batched


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("count", [1, 4])
def test_a_stop_inside_a_draft_ends_only_its_text(count, pack):
    text = right_of("llama", 4, 0.0)[count - 1]
    with packed(lm_of("llama").model) if pack else contextlib.nullcontext():
        for stop in (text[1], text[5]):
            check("llama", adversaries("llama", count, truth=1.0), stops=(stop,))


@pytest.mark.parametrize(
    "name",
    [n for n in DRAFTERS.names() if not DRAFTERS.load(n).needs and n not in ("rest", "merge")],
)
def test_registered_drafters(name):
    with contextlib.suppress(ConfigError):  # those that need options of their own
        check("llama", [create_drafter(name) for _ in range(3)])


def test_some_rows_without_a_draft_and_trees_of_one_node():
    drafters = [None, *adversaries("llama", 4)[1:3], None]
    check("llama", drafters)
    check("llama", adversaries("llama", 4), num_draft_tokens=1)


def test_the_context_ends_for_each_text_where_it_ends():
    lm = tiny("llama", max_position_embeddings=20)
    results = generate_batch(lm, list(prompts_of(4)), stop_ids=[], drafter="lookahead")
    assert [len(r.token_ids) for r in results] == [20 - length for length in LENGTHS]
    for prompt, result in zip(prompts_of(4), results, strict=True):
        assert result.token_ids == reference_ids(lm, prompt, max_new_tokens=64)
        assert result.finish_reason == "length"


def test_logits_are_those_of_each_text_alone():
    rng, model = random.Random(1), lm_of("qwen3").model
    batch = BatchRunner(Runner(model))
    texts = [list(p) for p in prompts_of(3)]
    batch.prefill(texts)
    for _ in range(3):
        trees = []
        for size in (1, 40, 7):
            parents = [-1] + [rng.randrange(-1, n) for n in range(1, size)]
            trees.append(TokenTree([rng.randrange(64) for _ in parents], parents))
        found = batch.verify(trees, hidden=True)
        paths = []
        for text, tree, one in zip(texts, trees, found, strict=True):
            node = rng.randrange(len(tree))
            path = tree.path_to(node)
            ids = text + [tree.token_ids[n] for n in path]
            with torch.no_grad():
                plain = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
            torch.testing.assert_close(one.logits[node], plain, atol=1e-4, rtol=0)
            assert one.hidden.shape == (len(tree), 32)
            text.extend(tree.token_ids[n] for n in path)
            paths.append(path)
        batch.commit(paths)
        assert batch.lengths == [len(text) for text in texts]


def test_misuse_is_refused():
    lm = lm_of("llama")
    with pytest.raises(ConfigError, match="no prompts"):
        generate_batch(lm, [])
    with pytest.raises(ConfigError, match="1 drafters for 2 prompts"):
        generate_batch(lm, [[1], [2]], drafter=[create_drafter("lookahead")])
    with pytest.raises(ConfigError, match="no tokens"):
        generate_batch(lm, [[1], []])
    one = create_drafter("lookahead")
    with pytest.raises(ConfigError, match="share a drafter"):
        generate_batch(lm, [[1], [2]], drafter=[one, one])
