"""Unigram language model: start from all frequent pieces, drop those that the text misses least.

Source: Kudo 2018, https://arxiv.org/abs/1804.10959, section 3.2; the schedule is that of
SentencePiece and of Hugging Face `tokenizers` (two rounds of expectation and maximisation, keep
three quarters, until a tenth above the size; digamma as in variational Bayes).
Differs from the source: works on counts of pretokens over bytes, so that no character is unknown;
pieces are ordered by score and bytes, so that the result does not depend on the order of reading
(the trainer of `tokenizers` gives another vocabulary in each run).
Cost: one pass over the text to count, then about 20 passes over the distinct pretokens.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jeton.core.progress import Progress
from jeton.errors import ConfigError
from jeton.learn.contract import LearnedVocabulary
from jeton.learn.counts import count_pretokens
from jeton.learn.fresh import Fresh, FreshLearner
from jeton.learn.lattice import PieceTrie
from jeton.learn.packed import PackedCounts
from jeton.learn.pieces import finish_pieces

_SINGLE = [bytes([byte]) for byte in range(256)]


@dataclass(frozen=True, slots=True)
class Unigram(FreshLearner):
    """A vocabulary by the likelihood of the text.

    Attributes:
        seed_size: Most pieces at the start.
        max_piece_bytes: Longest piece.
        shrinking: Share of the pieces that each round keeps.
        num_iterations: Rounds of expectation and maximisation between two cuts.
        spans: What one token may cover; see `bpe`.
    """

    seed_size: int = 1_000_000
    max_piece_bytes: int = 16
    shrinking: float = 0.75
    num_iterations: int = 2
    spans: str = ""

    def __post_init__(self) -> None:
        for name, least in (("seed_size", 1), ("max_piece_bytes", 2), ("num_iterations", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not 0 < self.shrinking < 1:
            raise ConfigError(f"shrinking must lie between 0 and 1, got {self.shrinking}")

    def learn_fresh(
        self, texts: Iterable[str], fresh: Fresh, progress: Progress
    ) -> LearnedVocabulary:
        """Learn from texts; see `FreshLearner.learn_fresh`."""
        pre_tokenizer = fresh.pre_tokenizer(self.spans)
        counts = count_pretokens(texts, fresh.pretokenizer(pre_tokenizer), progress=progress)
        words = counts.packed().in_byte_order()  # sums of floats depend on their order
        target = int(1.1 * (fresh.vocab_size - len(fresh.added)))
        pieces, scores = self._seeds(words)
        progress.stage("fitting the pieces")
        while True:
            for _ in range(self.num_iterations):
                pieces, scores = _fitted(pieces, scores, words)
            if len(pieces) <= max(target, 256):
                break
            size = max(int(self.shrinking * len(pieces)), target)
            pieces, scores = _pruned(pieces, scores, words, size)
        order = sorted(range(len(pieces)), key=lambda i: (-scores[i], pieces[i]))
        ranked = [pieces[i] for i in order]
        return finish_pieces(
            "unigram", fresh, ranked, [float(scores[i]) for i in order], counts, pre_tokenizer
        )

    def _seeds(self, words: PackedCounts) -> tuple[list[bytes], NDArray[np.float64]]:
        """Return the bytes and the substrings with the most bytes in the text, and their scores."""
        weight = np.repeat(words.values_array, np.diff(words.ends, prepend=0))
        left = np.repeat(words.ends, np.diff(words.ends, prepend=0)) - np.arange(len(words.data))
        singles = np.bincount(words.data, weight, minlength=256)
        found: list[tuple[float, bytes]] = []
        for size in range(2, self.max_piece_bytes + 1):
            starts = np.flatnonzero(left >= size)
            if not len(starts):
                break
            rows = words.data[starts[:, None] + np.arange(size)]
            keys, at = np.unique(rows.view(f"V{size}").ravel(), return_inverse=True)
            sums = np.bincount(at, weight[starts])
            for k in np.flatnonzero(sums >= 2):
                found.append((float(sums[k]) * size, keys[k].tobytes()))
            if len(found) > 4 * self.seed_size:
                found = sorted(found, key=lambda item: (-item[0], item[1]))[: self.seed_size]
        found = sorted(found, key=lambda item: (-item[0], item[1]))[: self.seed_size]
        pieces = [*_SINGLE, *(piece for _, piece in found)]
        weights = np.concatenate([np.maximum(singles, 1e-3), [value for value, _ in found]])
        return pieces, np.log(weights) - np.log(weights.sum())


def _fitted(
    pieces: list[bytes], scores: NDArray[np.float64], words: PackedCounts
) -> tuple[list[bytes], NDArray[np.float64]]:
    """Return the pieces that are used, with new scores: one round of the EM algorithm."""
    expected, _ = PieceTrie(pieces, scores).expected_uses(words)
    expected[:256] = np.maximum(expected[:256], 1e-3)  # the bytes stay
    kept = np.flatnonzero((expected >= 0.5) | (np.arange(len(pieces)) < 256))
    uses = expected[kept]
    return [pieces[i] for i in kept], _digamma(uses) - _digamma(np.array([uses.sum()]))


def _pruned(
    pieces: list[bytes], scores: NDArray[np.float64], words: PackedCounts, size: int
) -> tuple[list[bytes], NDArray[np.float64]]:
    """Return the `size` pieces without which the text would be least likely."""
    trie = PieceTrie(pieces, scores)
    uses = trie.uses(words).astype(np.float64)
    parts, ends = trie.best_cuts(PackedCounts.pack(dict.fromkeys(pieces, 1)), skips_whole=True)
    total = max(uses.sum(), 1.0)
    lengths = np.diff(ends, prepend=0)
    # What the text loses when the uses of a piece fall to its next best cut.
    owner = np.repeat(np.arange(len(pieces)), lengths)
    new_total = total + uses * (lengths - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        parts_logprob = np.log(uses[parts] + uses[owner]) - np.log(new_total[owner])
        alternative = np.bincount(owner, parts_logprob, minlength=len(pieces))
        loss = uses / total * (np.log(uses) - np.log(total) - alternative)
    loss = np.where(uses > 0, loss, 0.0)
    loss[:256] = np.inf
    order = sorted(range(len(pieces)), key=lambda i: (-loss[i], pieces[i]))[:size]
    kept = sorted(order)
    return [pieces[i] for i in kept], scores[kept]


def _digamma(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the digamma function of positive numbers, by recurrence and its asymptotic series."""
    x, shift = values.copy(), np.zeros_like(values)
    for _ in range(6):
        is_small = x < 6
        shift -= np.where(is_small, 1 / x, 0.0)
        x = np.where(is_small, x + 1, x)
    square = 1 / (x * x)
    series = square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240)))
    result: NDArray[np.float64] = shift + np.log(x) - 0.5 / x - series
    return result
