"""Laws of decoding over every registered drafter and verifier: plain decoding, only faster."""

import functools
import itertools
import random

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    PrefixConstrainedLogitsProcessor,
)

from jeton.decoding.contract import DISTINCT, NEEDS, Sampling
from jeton.decoding.create import default_verifier
from jeton.decoding.engine import DecodingLoop
from jeton.decoding.generation import generate
from jeton.decoding.registry import DRAFTERS, VERIFIERS
from jeton.decoding.replay import replay
from jeton.decoding.store import Datastore
from jeton.errors import ConfigError, UnsupportedModelError
from jeton.testing.decoding import (
    STOP_ID,
    AcceptsEverything,
    Adversary,
    check_equals_plain,
    random_prompt,
    reference_ids,
    tiny_language_model,
    with_other_ids,
)
from jeton.testing.models import CHAIN_ONLY_FAMILIES
from jeton.testing.weights import random_acceptance_head, random_heads, untrained_adapter

FAMILIES = ("llama", "mistral", "gemma3", "gpt2")  # mistral and gemma3 have windows of 6
VOCAB = 61
LENGTHS = {"llama": 15, "mistral": 7, "gemma3": 22, "gpt2": 3}
SAMPLINGS = {
    "temperature": Sampling(temperature=0.7, seed=3),
    "top_k": Sampling(temperature=1.3, top_k=5, seed=-1),
    "top_p": Sampling(temperature=1.0, top_p=0.8, seed=2**70),
    "min_p": Sampling(temperature=1.0, min_p=0.1),
    "all": Sampling(temperature=0.9, top_k=20, top_p=0.9, min_p=0.02, repetition_penalty=1.3),
}


@functools.cache
def model_of(family, seed=0):
    return tiny_language_model(family, seed)


def prompt_of(family, seed=0):
    return random_prompt(random.Random(seed), LENGTHS.get(family, 11), VOCAB)


@functools.cache
def plain_ids(family, max_new_tokens, sampling=None):
    return reference_ids(
        model_of(family), prompt_of(family), max_new_tokens=max_new_tokens, sampling=sampling
    )


def make(name, family="llama"):
    """A drafter of the registry with options fit for 61 ids."""
    return DRAFTERS.create(name, OPTIONS[name](family) if name in OPTIONS else None)


@functools.cache
def store():
    """A datastore that holds what two families say, among other things."""
    rng = random.Random(9)
    texts = [random_prompt(rng, 40, VOCAB) for _ in range(6)]
    return Datastore.build([*texts, plain_ids("llama", 40), plain_ids("mistral", 40)])


OPTIONS = {
    "hydra": lambda family: {"trained": random_heads("hydra")},
    "medusa": lambda family: {"trained": random_heads("medusa")},
    "kangaroo": lambda family: {
        "trained": untrained_adapter(model_of(family)),
        "min_confidence": 0.05,
    },
    "specdec_pp": lambda family: {"trained": random_acceptance_head()},
    "rest": lambda family: {"datastore": store()},
    "online": lambda family: {"min_confidence": 0.05, "every": 2, "window": 16},
    "rapid": lambda family: {"min_confidence": 0.05, "budget": 8, "piece": 2, "query": 4},
    "draft_model": lambda family: {"min_confidence": 0.05},
    "cross_vocabulary": lambda family: {"min_confidence": 0.05},
}


def make_verifier(name):
    """A verifier of the registry; a head that never agrees makes the lossy one exact."""
    never = (torch.zeros(32), torch.tensor([-50.0]))
    return VERIFIERS.create(name, {"weights": never} if name == "judge" else None)


def draft_model_for(drafter, family):
    """Another model of the family when the drafter needs one; it is often wrong."""
    if "any_draft_model" in drafter.needs:
        return with_other_ids(model_of(family, 1))
    return model_of(family, 1) if "draft_model" in drafter.needs else None


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", DRAFTERS.names())
def test_greedy_equals_plain(name, family):
    drafter = make(name, family)
    assert drafter.needs <= NEEDS
    for prompt_seed in (0, 1):
        prompt = prompt_of(family, prompt_seed)
        check_equals_plain(
            model_of(family),
            prompt,
            drafter,  # the same instance twice: begin forgets
            max_new_tokens=40,
            draft_model=draft_model_for(drafter, family),
            expected=plain_ids(family, 40) if prompt_seed == 0 else None,
        )


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
@pytest.mark.parametrize("name", DRAFTERS.names())
def test_seed_exact_equals_plain(name, sampling):
    drafter = make(name, "mistral")
    check_equals_plain(
        model_of("mistral"),
        prompt_of("mistral"),
        drafter,
        sampling=sampling,
        max_new_tokens=30,
        draft_model=draft_model_for(drafter, "mistral"),
        expected=plain_ids("mistral", 30, sampling),
    )


def may_meet(drafter, verifier):
    return drafter.fixes_draws or not verifier.needs_fixed_draws


@pytest.mark.parametrize("verifier_name", VERIFIERS.names())
@pytest.mark.parametrize("name", DRAFTERS.names())
def test_every_pair_is_exact_where_only_one_token_is_possible(name, verifier_name):
    """With top_k 1 the law is one token: every lossless verifier must give the greedy text."""
    drafter, verifier = make(name), make_verifier(verifier_name)
    warm = verifier.is_sampler
    arguments = {
        "verifier": verifier,
        "sampling": Sampling(temperature=1.0, top_k=1) if warm else Sampling(),
        "draft_model": draft_model_for(drafter, "llama"),
        "expected": plain_ids("llama", 40)[:24],
    }
    if not may_meet(drafter, verifier):
        with pytest.raises(ConfigError, match="distribution"):
            check_equals_plain(model_of("llama"), prompt_of("llama"), drafter, **arguments)
        return
    check_equals_plain(model_of("llama"), prompt_of("llama"), drafter, **arguments)


def lossless(*, needs_fixed_draws):
    found = {name: VERIFIERS.load(name) for name in VERIFIERS.names()}
    fitting = {n: v for n, v in found.items() if v.needs_fixed_draws == needs_fixed_draws}
    return [n for n, v in fitting.items() if v.is_lossless]


@pytest.mark.parametrize("verifier_name", lossless(needs_fixed_draws=False))
@pytest.mark.parametrize("family", FAMILIES)
def test_random_trees_change_nothing(family, verifier_name):
    verifier = VERIFIERS.create(verifier_name)
    sampling = Sampling(temperature=1.0, top_k=1) if verifier.is_sampler else Sampling()
    right = plain_ids(family, 40)
    accepted = 0
    for seed in range(4):
        adversary = Adversary([*prompt_of(family), *right], seed=seed)
        loop = check_equals_plain(
            model_of(family),
            prompt_of(family),
            adversary,
            verifier=verifier,
            sampling=sampling,
            max_new_tokens=40,
            num_draft_tokens=9,
            expected=right,
        )
        accepted += loop.stats.num_accepted
    assert accepted > 20, "the drafts never held, so nothing was tested"


@pytest.mark.parametrize("family", CHAIN_ONLY_FAMILIES)
def test_random_chains_change_nothing_on_recurrent_models(family):
    right = plain_ids(family, 24)
    for seed in range(3):
        adversary = Adversary([*prompt_of(family), *right], seed=seed, makes_trees=False)
        loop = check_equals_plain(
            model_of(family), prompt_of(family), adversary, expected=right, num_draft_tokens=5
        )
    assert loop.stats.num_accepted
    with pytest.raises(UnsupportedModelError, match="takes no token trees"):
        check_equals_plain(model_of(family), prompt_of(family), Adversary([]), expected=right)


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_random_trees_change_nothing_under_sampling(sampling):
    right = plain_ids("mistral", 30, sampling)
    adversary = Adversary([*prompt_of("mistral"), *right], seed=5)
    loop = check_equals_plain(
        model_of("mistral"),
        prompt_of("mistral"),
        adversary,
        sampling=sampling,
        max_new_tokens=30,
        expected=right,
    )
    assert loop.stats.num_accepted > 5


def test_a_wrong_verifier_is_found():
    right = plain_ids("llama", 40)[:24]
    adversary = Adversary([*prompt_of("llama"), *right], truth=0.5)
    with pytest.raises(AssertionError, match="plain"):
        check_equals_plain(
            model_of("llama"),
            prompt_of("llama"),
            adversary,
            verifier=AcceptsEverything(),
            expected=right,
        )


def test_greedy_with_repetition_penalty_equals_plain():
    sampling = Sampling(repetition_penalty=1.7)
    right = plain_ids("llama", 30, sampling)
    assert right != plain_ids("llama", 40)[:30], "the penalty had no effect"
    check_equals_plain(
        model_of("llama"),
        prompt_of("llama"),
        Adversary([*prompt_of("llama"), *right]),
        sampling=sampling,
        max_new_tokens=30,
        expected=right,
    )


def test_logits_processors_see_the_context_of_their_node():
    """A processor that forbids repeats: exact under a tree only when each node has its own past."""

    def forbid_seen(input_ids, scores):
        return scores.index_fill(-1, input_ids[0].unique(), float("-inf"))

    lm, prompt = model_of("llama"), prompt_of("llama")
    runs = []
    for drafter in (None, "adversary"):
        if drafter:
            drafter = Adversary([*prompt, *runs[0]], truth=0.9)
        loop = DecodingLoop(
            lm,
            drafter=drafter,
            verifier=VERIFIERS.create("greedy"),
            sampling=Sampling(),
            processors=[forbid_seen],
        )
        runs.append([i for new in loop.run(prompt, 24) for i in new])
    assert runs[0] == runs[1]
    assert loop.stats.num_accepted > 3
    assert len({*prompt, *runs[0]}) == len({*prompt}) + 24


@pytest.mark.parametrize("place", [0, 3, 8, 20])
def test_stop_inside_a_draft(place):
    lm, prompt = model_of("gpt2"), prompt_of("gpt2")
    right = plain_ids("gpt2", 40)
    stop = right[place]
    expected = right[: right.index(stop) + 1]
    for seed in range(3):
        adversary = Adversary([*prompt, *right], seed=seed, truth=1.0)
        check_equals_plain(
            lm, prompt, adversary, max_new_tokens=40, stop_ids=[stop], expected=expected
        )
    result = generate(
        lm, prompt, max_new_tokens=40, drafter=Adversary([*prompt, *right]), stop_ids=[stop]
    )
    assert result.token_ids == expected
    assert result.finish_reason == "stop"
    assert result.data == lm.vocabulary.bytes_of(expected[:-1])


@pytest.mark.parametrize("max_new_tokens", [1, 2, 5, 11])
@pytest.mark.parametrize("num_draft_tokens", [0, 1, 16])
def test_the_last_draft_is_cut(max_new_tokens, num_draft_tokens):
    right = plain_ids("llama", 40)
    for makes_trees in (True, False):
        adversary = Adversary([*prompt_of("llama"), *right], truth=1.0, makes_trees=makes_trees)
        if num_draft_tokens == 0:  # the engine then never asks
            adversary.propose = None
        loop = DecodingLoop(
            model_of("llama"),
            drafter=adversary,
            verifier=VERIFIERS.create("greedy"),
            sampling=Sampling(),
            num_draft_tokens=num_draft_tokens,
        )
        found = [i for new in loop.run(prompt_of("llama"), max_new_tokens) for i in new]
        assert found == right[:max_new_tokens]


@pytest.mark.parametrize("family", ["gpt2", "mistral"])
def test_the_context_ends_where_the_model_ends(family):
    lm = tiny_language_model(family, max_position_embeddings=24)
    prompt = random_prompt(random.Random(4), 10, VOCAB)
    right = reference_ids(lm, prompt, max_new_tokens=99)
    assert len(right) == 14
    for seed in range(3):
        adversary = Adversary([*prompt, *right], seed=seed, truth=0.9)
        check_equals_plain(lm, prompt, adversary, max_new_tokens=99, expected=right)
    full = random_prompt(random.Random(4), 23, VOCAB)
    assert len(generate(lm, full, max_new_tokens=5, stop_ids=[]).token_ids) == 1
    with pytest.raises(ConfigError, match="holds 24"):
        generate(lm, random_prompt(random.Random(4), 24, VOCAB))


@pytest.mark.parametrize("name", DRAFTERS.names())
def test_replay_decodes_the_record(name):
    drafter = make(name)
    lm = model_of("llama")
    record = random_prompt(random.Random(7), 40, VOCAB) * 2
    figures = replay(
        lm,
        record,
        num_prompt_tokens=12,
        drafter=drafter,
        draft_model=draft_model_for(drafter, "llama"),
    )
    assert figures.num_tokens == len(record) - 13
    assert figures.num_bytes == len(lm.vocabulary.bytes_of(record[13:]))
    assert figures.tokens_per_step >= 1


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=2.0)], ids=str)
def test_padded_rows_are_never_said(sampling):
    """The matrix has 64 rows, 20 of them are tokens; padded ones are often the likeliest."""
    lm = tiny_language_model("llama", vocab_size=20)
    prompt = [i % 20 for i in prompt_of("llama")]
    right = reference_ids(lm, prompt, max_new_tokens=20, sampling=sampling)
    for drafter in (None, Adversary([*prompt, *right]), make("token_recycling"), make("aded")):
        check_equals_plain(lm, prompt, drafter, sampling=sampling, max_new_tokens=20)


def test_sampled_text_depends_on_the_seed_alone():
    lm, prompt = model_of("llama"), prompt_of("llama")
    texts = [
        generate(lm, prompt, max_new_tokens=20, sampling=Sampling(temperature=1.0, seed=s))
        for s in (0, 0, 1)
    ]
    assert texts[0].token_ids == texts[1].token_ids != texts[2].token_ids


def test_rows_agree_with_declared_capabilities():
    for name in VERIFIERS.names():
        verifier = VERIFIERS.load(name)
        assert verifier.is_lossless or "lossy" in VERIFIERS.rows[name].summary
        assert not (verifier.draws == DISTINCT and not verifier.is_sampler)
    assert default_verifier(Sampling()).is_sampler is False
    assert default_verifier(Sampling(temperature=1)).is_sampler is True


def allowed(batch_id, input_ids):
    """A grammar: an odd id is followed by an even one, an even one by ids below 20."""
    ids = range(0, VOCAB, 2) if int(input_ids[-1]) % 2 else range(20)
    return [i for i in ids if i != STOP_ID]


@pytest.mark.parametrize("verifier_name", VERIFIERS.names())
def test_constrained_decoding_is_exact_under_every_verifier(verifier_name):
    """Processors of transformers, at each node of trees that often break the constraint."""
    verifier = make_verifier(verifier_name)
    processors = LogitsProcessorList(
        [
            PrefixConstrainedLogitsProcessor(allowed, 1),
            NoRepeatNGramLogitsProcessor(4),
        ]
    )
    lm, prompt = model_of("llama"), prompt_of("llama")
    sampling = Sampling(temperature=1.0, seed=2) if verifier.is_sampler else Sampling()
    texts = []
    for is_drafted in (False, True):
        drafter = None
        if is_drafted and verifier.needs_fixed_draws:  # which an adversary does not make
            drafter = make("draft_tree")
        elif is_drafted:
            drafter = Adversary([*prompt, *texts[0]], truth=0.7)
        found = generate(
            lm,
            prompt,
            max_new_tokens=30,
            drafter=drafter,
            draft_model=model_of("llama", 1),
            verifier=verifier,
            sampling=sampling,
            processors=processors,
            stop_ids=[],
        )
        texts.append(found.token_ids)
        text = [prompt[-1], *found.token_ids]
        assert all(b in allowed(0, [a]) for a, b in itertools.pairwise(text))
        grams = [tuple(text[i : i + 4]) for i in range(len(text) - 3)]
        assert len(set(grams)) == len(grams)
    if verifier_name in ("greedy", "seed_exact", "judge"):  # the others keep the law, not the text
        assert texts[0] == texts[1]
        assert found.stats.num_accepted > 3
    assert found.stats.num_proposed > 0
