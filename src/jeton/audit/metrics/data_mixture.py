"""Data mixture inference: what a BPE tokenizer was trained on, read off the order of its merges.

Source: Hayase et al. 2024, Data Mixture Inference, https://arxiv.org/abs/2407.16607, Eq. 2-3
Differs from the source: merges that never fire are dropped first; rivals are the most frequent
    pairs of each category at sampled steps, all at once, instead of lazily generated rows.
Cost: a replay of the merges on the text of each category, and one linear program (HiGHS).
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from jeton.audit.contract import MetricResult, Witness
from jeton.audit.encoding import readable
from jeton.audit.evidence import AuditInput, FloatArray
from jeton.audit.merges import find_rules
from jeton.audit.pretokens import can_count_pretokens, count_pretokens
from jeton.audit.reachability import symbols_of, text_merges
from jeton.errors import ConfigError, MissingExtraError

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class DataMixture:
    """Share of each group of texts in the tokenizer's training data.

    Attributes:
        num_merges: Merges replayed.
        num_rivals: Rival pairs per category at each merge.
    """

    num_merges: int = 1500
    num_rivals: int = 4

    name: ClassVar[str] = "data_mixture"
    needs: ClassVar[tuple[str, ...]] = ("texts",)
    is_default: ClassVar[bool] = False
    is_per_token: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.num_merges < 1 or self.num_rivals < 1:
            raise ConfigError("num_merges and num_rivals must be at least 1")

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the shares as groups; the value is the share of the largest."""
        title = "Training data mixture"
        names = [name for name in sorted(given.texts) if any(given.texts[name])]
        merges = text_merges(given.vocabulary)
        if len(names) < 2 or not can_count_pretokens(given.vocabulary):
            detail = "needs a byte-level BPE tokenizer.json and texts of at least two categories"
            return MetricResult(self.name, title, None, detail=detail)
        rules = find_rules(merges, symbols_of(given.vocabulary), given.vocabulary.lengths)
        steps = [tuple(row) for row in merges[rules.fires][: self.num_merges].tolist()]
        replays = [_Replay(given, name) for name in names]
        rows = _constraints(replays, steps, self.num_rivals)
        shares = _solve(rows, len(steps), len(names))
        tokens = given.vocabulary.tokens
        largest = int(np.argmax(shares))
        return MetricResult(
            name=self.name,
            title=title,
            value=float(shares[largest]),
            unit="share",
            detail=f"from the order of {len(steps):,} merges; most is {names[largest]}",
            groups={name: float(share) for name, share in zip(names, shares, strict=True)},
            witnesses=[
                Witness(step[2], readable(tokens[step[2]]), f"merge {i}")
                for i, step in enumerate(steps[:10])
            ],
        )


class _Replay:
    """The text of one category while the merges are applied one by one."""

    def __init__(self, given: AuditInput, name: str) -> None:
        byte_ids = given.vocabulary.byte_ids
        counts = count_pretokens(given.vocabulary, given.texts[name])
        self._words = [[byte_ids[b] for b in word] for word in sorted(counts)]
        self._weights = [counts[word] for word in sorted(counts)]
        self.counts: Counter[Pair] = Counter()
        self._where: defaultdict[Pair, set[int]] = defaultdict(set)
        for index in range(len(self._words)):
            self._add(index, 1)
        self.total = max(1, self.counts.total())

    def _add(self, index: int, sign: int) -> None:
        word = self._words[index]
        for pair in itertools.pairwise(word):
            self.counts[pair] += sign * self._weights[index]
            if sign > 0:
                self._where[pair].add(index)

    def apply(self, left: int, right: int, result: int) -> None:
        """Merge a pair everywhere."""
        for index in sorted(self._where.pop((left, right), ())):
            word = self._words[index]
            self._add(index, -1)
            merged, i = [], 0
            while i < len(word):
                if i + 1 < len(word) and word[i] == left and word[i + 1] == right:
                    merged.append(result)
                    i += 2
                else:
                    merged.append(word[i])
                    i += 1
            self._words[index] = merged
            self._add(index, 1)


def _constraints(
    replays: Sequence[_Replay], steps: Sequence[Any], num_rivals: int
) -> list[tuple[int, Pair, FloatArray]]:
    """Return step, rival, and how much rarer than the merge the rival is in each category."""
    rows = []
    for step, (left, right, result) in enumerate(steps):
        rivals: set[Pair] = set()
        for replay in replays:
            top = _largest(replay.counts, num_rivals + 1)
            rivals.update(pair for pair in top if pair != (left, right))
        own = np.array([r.counts[(left, right)] / r.total for r in replays])
        for rival in sorted(rivals):
            other = np.array([r.counts[rival] / r.total for r in replays])
            if (own < other).any():  # else it holds for every mixture
                rows.append((step, rival, own - other))
        for replay in replays:
            replay.apply(left, right, result)
    return rows


def _largest(counts: Counter[Pair], number: int) -> list[Pair]:
    return [pair for pair, count in counts.most_common(number) if count > 0]


def _solve(
    rows: Sequence[tuple[int, Pair, FloatArray]], num_steps: int, num_categories: int
) -> FloatArray:
    """Return the mixture that violates the order of merges least (Eq. 3)."""
    try:
        from scipy.optimize import linprog
        from scipy.sparse import coo_matrix
    except ImportError as error:
        raise MissingExtraError(
            "data_mixture solves a linear program with scipy, which is not installed",
            hint="pip install scipy",
        ) from error
    if not rows:
        return np.full(num_categories, 1 / num_categories)
    pairs = {pair: i for i, pair in enumerate(sorted({pair for _, pair, _ in rows}))}
    size = num_categories + num_steps + len(pairs)
    values, at, columns = [], [], []
    for row, (step, pair, margin) in enumerate(rows):
        slack = (num_categories + step, num_categories + num_steps + pairs[pair])
        values += [*(-margin).tolist(), -1.0, -1.0]
        columns += [*range(num_categories), *slack]
        at += [row] * (num_categories + 2)
    found = linprog(
        c=np.r_[np.zeros(num_categories), np.ones(size - num_categories)],
        A_ub=coo_matrix((values, (at, columns)), shape=(len(rows), size)),
        b_ub=np.zeros(len(rows)),
        A_eq=coo_matrix(np.r_[np.ones(num_categories), np.zeros(size - num_categories)][None]),
        b_eq=[1.0],
        method="highs",
    )
    raw = np.clip(found.x[:num_categories], 0, 1)
    shares: FloatArray = raw / raw.sum()
    return shares
