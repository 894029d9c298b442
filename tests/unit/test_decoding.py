"""Noise, filters, prompts and what is refused."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from jeton.decoding.contract import DraftContext, Sampling, Step
from jeton.decoding.create import default_verifier
from jeton.decoding.engine import DecodingLoop, under_root
from jeton.decoding.filters import filter_row
from jeton.decoding.generation import generate
from jeton.decoding.noise import gumbel, uniforms
from jeton.decoding.registry import DRAFTERS, VERIFIERS
from jeton.decoding.replay import replay
from jeton.decoding.stops import StopStrings
from jeton.errors import ConfigError, TokenizerMismatchError, UnknownMethodError
from jeton.lm.tree import TokenTree
from jeton.testing.decoding import check_filters, tiny_language_model

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "decoding"


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


def drafts(drafter, context):
    """The draft after a context, given as a prompt of one token and then one token per step."""
    first, *rest = context["token_ids"]
    drafter.begin(DraftContext([first], 100, Sampling()))
    for token_id in rest:
        drafter.observe(Step(TokenTree.chain([first]), (0,), (token_id,)))
        first = token_id
    return drafter.propose(context["num_draft_tokens"])


@pytest.mark.parametrize("case", golden("prompt_lookup")["cases"], ids=lambda c: c["name"])
def test_prompt_lookup_golden(case):
    drafter = DRAFTERS.create("prompt_lookup", case["options"])
    drafter.begin(DraftContext(case["token_ids"], 100, Sampling()))
    at_once = drafter.propose(case["num_draft_tokens"])
    assert at_once.token_ids == case["draft"]
    assert at_once.is_chain
    assert drafts(drafter, case).token_ids == case["draft"]


def test_gumbel_golden():
    for row in golden("gumbel")["rows"]:
        found = gumbel(row["seed"], row["position"], len(row["noise"]))
        np.testing.assert_allclose(found.numpy(), row["noise"], rtol=1e-12)


def test_gumbel_distribution():
    """Kolmogorov-Smirnov against the Gumbel law, along positions and along the vocabulary."""
    along_ids = gumbel(1, 5, 4000).numpy()
    along_positions = np.array([float(gumbel(1, p, 3)[2]) for p in range(4000)])
    along_seeds = np.array([float(gumbel(s, 7, 1)[0]) for s in range(4000)])
    for sample in (along_ids, along_positions, along_seeds):
        law = np.exp(-np.exp(-np.sort(sample)))
        steps = np.arange(1, len(law) + 1) / len(law)
        distance = max((steps - law).max(), (law - steps + 1 / len(law)).max())
        assert distance < 1.95 / np.sqrt(len(law))  # the 0.1 % point of Kolmogorov's law
    assert abs(np.corrcoef(along_ids, along_positions)[0, 1]) < 0.06


def test_noise_has_independent_streams():
    rows = {tuple(uniforms(s, p, t).random(2)) for s in (0, 1) for p in (0, 1) for t in (0, 1)}
    assert len(rows) == 8


def test_gumbel_max_draws_from_the_softmax():
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0], dtype=torch.float64)
    draws = [int((logits + gumbel(11, p, 4)).argmax()) for p in range(6000)]
    counts = np.bincount(draws, minlength=4)
    expected = logits.softmax(-1).numpy() * len(draws)
    assert ((counts - expected) ** 2 / expected).sum() < 16.3  # chi-square, 3 degrees, 0.1 %


SAMPLINGS = [
    Sampling(temperature=0.5),
    Sampling(temperature=1.0, top_k=7),
    Sampling(temperature=1.0, top_k=500),
    Sampling(temperature=2.0, top_p=0.7),
    Sampling(temperature=0.8, top_p=0.01),
    Sampling(temperature=1.0, min_p=0.2),
    Sampling(repetition_penalty=1.5),
    Sampling(repetition_penalty=0.7),
    Sampling(temperature=1.1, top_k=30, top_p=0.95, min_p=0.01, repetition_penalty=1.2),
]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_filters_are_those_of_transformers(sampling):
    rng = torch.Generator().manual_seed(0)
    for _ in range(10):
        check_filters(filter_row, rng, sampling)


def test_under_root_shifts_nodes():
    tree = under_root(9, TokenTree.from_paths([[1, 2], [3]]))
    assert tree.token_ids == [9, 1, 2, 3]
    assert tree.parents == [-1, 0, 1, 0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": -0.1}, "temperature must be finite and at least 0, got -0.1"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"top_p": 0.0}, "top_p must be in"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"min_p": 1.0}, "min_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
    ],
)
def test_bad_sampling_is_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        Sampling(**options)


def test_bad_prompts_are_refused():
    lm = tiny_language_model("llama")
    with pytest.raises(ConfigError, match="no tokens"):
        generate(lm, [])
    with pytest.raises(ConfigError, match="no tokens"):
        generate(lm, "")
    for bad in (-1, 61, 63):  # 61 and 63 are padded rows of the matrix, no tokens
        with pytest.raises(TokenizerMismatchError, match=f"prompt id {bad} is out of range"):
            generate(lm, [1, bad])
    with pytest.raises(ConfigError, match="prompt has 256 tokens"):
        generate(lm, [1] * 256)
    with pytest.raises(ConfigError, match="max_new_tokens"):
        generate(lm, [1], max_new_tokens=0)
    with pytest.raises(ConfigError, match="num_draft_tokens"):
        generate(lm, [1], num_draft_tokens=-1)
    with pytest.raises(ConfigError, match="no room"):
        replay(lm, [1, 2], num_prompt_tokens=2)


def test_unknown_names_are_refused_with_near_ones():
    lm = tiny_language_model("llama")
    with pytest.raises(UnknownMethodError) as caught:
        generate(lm, [1], drafter="prompt_lokup")
    assert caught.value.hint == "did you mean prompt_lookup?"
    with pytest.raises(UnknownMethodError, match="seed_exact"):
        VERIFIERS.create("exact_seed_of_mine")
    with pytest.raises(ConfigError, match="min_ngram"):
        DRAFTERS.create("prompt_lookup", {"min_ngram": 5, "max_ngram": 4})


def test_a_verifier_must_fit_the_temperature():
    lm = tiny_language_model("llama")
    with pytest.raises(ConfigError, match="Greedy is greedy"):
        generate(lm, [1], verifier=VERIFIERS.create("greedy"), sampling=Sampling(temperature=1))
    with pytest.raises(ConfigError, match="SeedExact samples"):
        generate(lm, [1], verifier=VERIFIERS.create("seed_exact"))


def test_text_bytes_and_ids_are_one_prompt():
    lm = tiny_language_model("llama")
    found = [generate(lm, p, max_new_tokens=6).token_ids for p in ("#$", b"#$", [3, 4])]
    assert found[0] == found[1] == found[2]


def test_streaming_gives_the_tokens_of_each_step_and_keeps_them_when_stopped():
    lm = tiny_language_model("llama")
    seen = []
    result = generate(lm, [5, 6], max_new_tokens=9, stop_ids=[], on_tokens=seen.extend)
    assert seen == result.token_ids
    loop = DecodingLoop(
        lm, drafter=None, verifier=default_verifier(Sampling()), sampling=Sampling()
    )
    steps = loop.run([5, 6], 9)
    some = [*next(steps), *next(steps)]
    steps.close()
    assert some == result.token_ids[:2]
    again = [i for new in loop.run([5, 6], 9) for i in new]
    assert again == result.token_ids


def test_stop_strings_cut_exactly_whatever_the_tokens():
    """Every text and every cut into tokens: nothing beyond the stop is ever given out."""
    rng = random.Random(0)
    for _ in range(300):
        text = bytes(rng.choices(b"ab", k=rng.randrange(12)))
        stops = [bytes(rng.choices(b"ab", k=rng.randrange(1, 4))) for _ in range(rng.randrange(3))]
        places = [place for place in map(text.find, stops) if place >= 0]
        expected = text[: min(places)] if places else text
        scanner, given, rest = StopStrings(stops), b"", text
        while rest:
            size = rng.randrange(1, 4)
            given += scanner.add(rest[:size])
            assert expected.startswith(given)
            rest = rest[size:]
        assert given + scanner.flush() == expected
        assert scanner.is_met == bool(places)


@pytest.mark.parametrize("drafter", [None, "prompt_lookup", "token_recycling"])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.0, seed=4)], ids=str)
def test_a_stop_string_ends_the_text_across_tokens(drafter, sampling):
    lm, options = tiny_language_model("llama"), {"max_new_tokens": 20, "stop_ids": []}
    whole = generate(lm, [5, 6, 7], sampling=sampling, **options)
    stop = whole.data[8:11]
    place, shown = whole.data.find(stop), []
    found = generate(
        lm,
        [5, 6, 7],
        drafter=drafter,
        sampling=sampling,
        stop_strings=[stop, "never said"],
        on_data=shown.append,
        **options,
    )
    assert found.data == whole.data[:place] == b"".join(shown)
    said = [stop in lm.vocabulary.bytes_of(whole.token_ids[:n]) for n in range(21)]
    assert found.token_ids == whole.token_ids[: said.index(True)]
    assert found.stats.num_tokens == said.index(True)
    assert found.finish_reason == "stop_string"
    same = generate(lm, [5, 6, 7], sampling=sampling, stop_strings=["never said"], **options)
    assert (same.data, same.finish_reason) == (whole.data, "length")
    with pytest.raises(ConfigError, match="stop string is empty"):
        generate(lm, [5], stop_strings=["a", ""])


def test_a_text_may_be_interrupted_after_any_step():
    lm, seen = tiny_language_model("llama"), []
    whole = generate(lm, [5, 6, 7], max_new_tokens=9, stop_ids=[])
    found = generate(
        lm,
        [5, 6, 7],
        max_new_tokens=9,
        stop_ids=[],
        on_tokens=seen.append,
        stop_when=lambda: len(seen) == 3,
    )
    assert found.token_ids == whole.token_ids[:3]
    assert found.finish_reason == "interrupted"


def test_processors_that_forbid_everything_are_refused():
    with pytest.raises(ConfigError, match="leave no token"):
        generate(
            tiny_language_model("llama"),
            [5],
            processors=[lambda ids, scores: torch.full_like(scores, float("-inf"))],
        )
