"""Superposed Decoding: the worked example, one draft, n-grams, and what is refused."""

import json
import math
from pathlib import Path

import pytest
import torch

from jeton.decoding.generation import generate
from jeton.decoding.superposed import NGrams, combine, superposed
from jeton.errors import ConfigError
from jeton.testing.decoding import tiny_language_model

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "decoding" / "superposed.json"


@pytest.mark.parametrize("case", json.loads(GOLDEN.read_text())["cases"], ids=lambda c: c["name"])
def test_golden_combination(case):
    found = combine(
        [math.log(p) for p in case["drafts"]],
        torch.tensor(case["law"], dtype=torch.float64),
        [{int(token): p for token, p in said.items()} for said in case["ngrams"]],
        case["num_drafts"],
        case["alpha"],
    )
    assert [[draft, token] for draft, token, _ in found] == [row[:2] for row in case["kept"]]
    assert [math.exp(row[2]) for row in found] == pytest.approx(
        [row[2] for row in case["kept"]], rel=1e-5
    )


def test_one_draft_without_ngrams_is_greedy():
    lm = tiny_language_model("gpt2")
    greedy = generate(lm, [5, 9, 7], max_new_tokens=12)
    (draft,) = superposed(lm, [5, 9, 7], num_drafts=1, max_new_tokens=12, alpha=0.0)
    assert list(draft.token_ids) == greedy.token_ids
    assert draft.data == greedy.data


def test_ngrams_pull_the_drafts_towards_their_text():
    lm, text = tiny_language_model("llama"), [5, 6, 7, 8, 9] * 4
    free = superposed(lm, [5, 6], num_drafts=4, max_new_tokens=6, stop_ids=[])
    held = superposed(
        lm, [5, 6], num_drafts=61, max_new_tokens=3, alpha=1.0, texts=[text], stop_ids=[]
    )
    assert held[0].token_ids == (7, 8, 9)
    assert len(free) == 4 == len({draft.token_ids for draft in free})
    assert NGrams([text], 3).law([1, 2]) == {}


def test_a_stop_token_ends_one_draft_only():
    lm = tiny_language_model("llama")
    free = superposed(lm, [5, 6], num_drafts=3, max_new_tokens=6, stop_ids=[])
    stop = free[0].token_ids[2]
    found = superposed(lm, [5, 6], num_drafts=3, max_new_tokens=6, stop_ids=[stop])
    assert any(draft.token_ids[-1] == stop and len(draft.token_ids) <= 3 for draft in found)
    assert all(stop not in draft.token_ids[:-1] for draft in found)


def test_bad_numbers_are_refused():
    lm = tiny_language_model("llama")
    for options in ({"num_drafts": 0}, {"alpha": 1.5}, {"max_ngram": 1}, {"max_new_tokens": 0}):
        with pytest.raises(ConfigError, match="num_drafts"):
            superposed(lm, [5], **options)
    with pytest.raises(ConfigError, match="more than fit"):
        superposed(lm, [5] * 256)
