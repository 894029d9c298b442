"""Sampling: filters as defined, equal to those of transformers, frequencies as asked."""

import pytest
import torch
from transformers.generation import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from jeton.errors import ConfigError
from jeton.lm.sampling import (
    apply_temperature,
    greedy,
    min_p,
    repetition_penalty,
    sample,
    top_k,
    top_p,
)

LOGITS = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)) * 3
IDS = torch.tensor([[1, 4, 4, 9]] * 5)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda x: apply_temperature(x, 0.7), TemperatureLogitsWarper(0.7)),
        (lambda x: top_k(x, 3), TopKLogitsWarper(3)),
        (lambda x: top_k(x, 99), TopKLogitsWarper(99)),
        (lambda x: top_p(x, 0.6), TopPLogitsWarper(0.6)),
        (lambda x: top_p(x, 0.01), TopPLogitsWarper(0.01)),
        (lambda x: min_p(x, 0.1), MinPLogitsWarper(0.1)),
        (lambda x: repetition_penalty(x, [1, 4, 4, 9], 1.3), RepetitionPenaltyLogitsProcessor(1.3)),
    ],
)
def test_agrees_with_transformers(ours, theirs):
    before = LOGITS.clone()
    torch.testing.assert_close(ours(LOGITS), theirs(IDS, LOGITS.clone()))
    assert torch.equal(LOGITS, before)


def test_ties_at_the_border_take_the_lowest_id():
    found = top_p(torch.zeros(4), 0.5)
    assert found.tolist() == [0.0, 0.0, float("-inf"), float("-inf")]
    assert greedy(torch.tensor([[0.0, 2.0, 2.0]])).tolist() == [1]


def test_no_filter_excludes_everything():
    for found in (top_k(LOGITS, 1), top_p(LOGITS, 1e-9), min_p(LOGITS, 1.0)):
        assert torch.equal(greedy(found), greedy(LOGITS))
        assert int(found.isfinite().sum()) == len(LOGITS)
    assert torch.equal(top_p(LOGITS, 1.0), LOGITS)
    assert torch.equal(min_p(LOGITS, 0.0), LOGITS)


def test_sample_follows_the_probabilities_and_the_generator():
    logits = torch.tensor([0.1, 0.6, 0.3]).log().expand(20000, 3)
    drawn = sample(logits, torch.Generator().manual_seed(1))
    again = sample(logits, torch.Generator().manual_seed(1))
    assert torch.equal(drawn, again)
    frequencies = torch.bincount(drawn) / len(drawn)
    torch.testing.assert_close(frequencies, torch.tensor([0.1, 0.6, 0.3]), atol=0.015, rtol=0)
    assert sample(LOGITS[0]).shape == ()
    assert int(sample(top_k(LOGITS[0], 1))) == int(greedy(LOGITS[0]))


@pytest.mark.parametrize(
    "call",
    [
        lambda: apply_temperature(LOGITS, 0.0),
        lambda: apply_temperature(LOGITS, float("nan")),
        lambda: top_k(LOGITS, 0),
        lambda: top_p(LOGITS, 0.0),
        lambda: top_p(LOGITS, 1.1),
        lambda: min_p(LOGITS, -0.1),
        lambda: min_p(LOGITS, 1.1),
        lambda: repetition_penalty(LOGITS, [1], 0.0),
        lambda: sample(torch.full((3,), float("-inf"))),
        lambda: sample(torch.tensor([0.0, float("nan")])),
    ],
)
def test_values_outside_their_range_are_refused(call):
    with pytest.raises(ConfigError):
        call()
