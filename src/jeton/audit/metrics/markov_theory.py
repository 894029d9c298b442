"""Theory check: tokens let a unigram model reach the entropy of a k-order Markov source.

Source: Rajaraman et al. 2024, Toward a Theory of Tokenization in LLMs,
    https://arxiv.org/abs/2404.08335 (section 2: a unigram model over characters is stuck at the
    stationary entropy; section 3: over tokens it nears the entropy rate as the vocabulary grows)
Differs from the source: one switching source; the tokens are learned by greedy pair merging on one
    half of a sample, the unigram model is fitted on it too, and the other half is scored.
Cost: a second of array operations; no text is needed, nor the vocabulary.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jeton.audit.contract import MetricResult, Series, Witness
from jeton.audit.evidence import AuditInput, FloatArray, IntArray
from jeton.errors import ConfigError


@dataclass(frozen=True, slots=True)
class MarkovTheory:
    """How far a unigram model over the largest vocabulary stays above the entropy rate.

    Attributes:
        switch: Probability that a character differs from the one `order` places before.
        order: Order k of the source.
        num_characters: Length of the sample.
        vocab_size: Of the largest vocabulary, the two characters included.
    """

    switch: float = 0.1
    order: int = 1
    num_characters: int = 200_000
    vocab_size: int = 256

    name: ClassVar[str] = "markov_theory"
    needs: ClassVar[tuple[str, ...]] = ()
    is_default: ClassVar[bool] = False
    is_per_token: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.switch < 1:
            raise ConfigError(f"switch must be between 0 and 1, got {self.switch}")
        if self.order < 1 or self.vocab_size < 2 or self.num_characters < 100 * self.order:
            raise ConfigError("order >= 1, vocab_size >= 2 and num_characters >= 100 * order")

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the excess in bits per character; groups have the loss at each size."""
        rate = entropy_rate(self.switch)
        sample = draw(self.switch, self.order, self.num_characters, given.seed)
        half = len(sample) // 2
        losses = unigram_losses(sample[:half], sample[half:], self.vocab_size)
        largest = max(losses)
        sizes = sorted(losses)
        return MetricResult(
            name=self.name,
            title="Excess over the entropy rate of a Markov source",
            value=losses[largest] - rate,
            unit="bits per character",
            is_lower_better=True,
            detail=f"order {self.order}: {losses[2]:.3f} bits per character without tokens, "
            f"{losses[largest]:.3f} with {largest}, entropy rate {rate:.3f}",
            groups={f"{size} tokens": losses[size] for size in sizes} | {"entropy rate": rate},
            witnesses=[Witness(None, "".join(map(str, sample[:60].tolist())), "the source")],
            series={
                "loss": Series(
                    "Unigram loss by vocabulary size",
                    "tokens",
                    "bits per character",
                    [float(size) for size in sizes],
                    [losses[size] for size in sizes],
                )
            },
        )


def entropy_rate(switch: float) -> float:
    """Return the entropy of one choice in bits, which is the rate of a switching source.

    Example:
        >>> entropy_rate(0.5)
        1.0
    """
    return -switch * math.log2(switch) - (1 - switch) * math.log2(1 - switch)


def draw(switch: float, order: int, length: int, seed: int) -> IntArray:
    """Return characters 0 and 1, each the one `order` places before or, at times, the other."""
    generator = np.random.default_rng(seed)
    rows = -(-length // order)
    flips = (generator.random((rows, order)) < switch).astype(np.int64)
    flips[0] = generator.integers(0, 2, order)
    found: IntArray = (np.cumsum(flips, axis=0) % 2).reshape(-1)[:length]
    return found


def unigram_losses(train: IntArray, test: IntArray, vocab_size: int) -> dict[int, float]:
    """Return the loss in bits per character of a unigram model, by size of the vocabulary.

    Args:
        train: Characters to learn tokens and their probabilities from, shape (characters,).
        test: Characters to score, shape (characters,).
        vocab_size: Largest size; powers of two up to it are reported.
    """
    losses = {}
    num_test = len(test)
    for size in range(2, vocab_size + 1):
        if size & (size - 1) == 0 or size == vocab_size:
            counts = np.bincount(train, minlength=size).astype(np.float64) + 0.5
            losses[size] = -_log2(counts / counts.sum(), test) / num_test
        pairs = train[:-1] * vocab_size + train[1:]
        left, right = divmod(int(np.bincount(pairs).argmax()), vocab_size)
        train, test = merge(train, left, right, size), merge(test, left, right, size)
    return losses


def _log2(probabilities: FloatArray, tokens: IntArray) -> float:
    return float(np.log2(probabilities[tokens]).sum())


def merge(tokens: IntArray, left: int, right: int, result: int) -> IntArray:
    """Return the tokens with a pair merged, leftmost first.

    Example:
        >>> merge(np.array([1, 1, 1, 0]), 1, 1, 2)
        array([2, 1, 0])
    """
    at = np.flatnonzero((tokens[:-1] == left) & (tokens[1:] == right))
    if left == right and len(at):
        is_new = np.r_[True, np.diff(at) != 1]
        place = np.arange(len(at))
        starts = np.maximum.accumulate(np.where(is_new, place, 0))
        at = at[(place - starts) % 2 == 0]
    merged = tokens.copy()
    merged[at] = result
    found: IntArray = np.delete(merged, at + 1)
    return found
