"""Data mixture inference: what a BPE tokenizer was trained on, read off the order of its merges.

Source: Hayase et al. 2024, Data Mixture Inference, https://arxiv.org/abs/2407.16607, Eq. 2-3 and
    section 3.2 (rows are made lazily)
Differs from the source: merges that never fire are dropped first; counts are per byte of the
    category, so that the shares are shares of bytes.
Cost: a replay of the merges on the text of each category, and a linear program (HiGHS) per round.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from jeton.audit.contract import MetricResult, Series, Witness
from jeton.audit.encoding import readable
from jeton.audit.evidence import AuditInput, FloatArray
from jeton.audit.merges import find_rules, symbols_of, text_merges
from jeton.audit.pretokens import can_count_pretokens, count_pretokens
from jeton.audit.replay import ReplayLog, replay
from jeton.errors import ConfigError, MissingExtraError

_MARGIN = 1e-12  # rounding of counts per byte


@dataclass(frozen=True, slots=True)
class DataMixture:
    """Share of each group of texts in the tokenizer's training data.

    Attributes:
        num_merges: Merges replayed; the paper uses up to 30,000.
        num_rivals: Rival pairs that each round adds at each merge.
        max_rounds: Linear programs at most; five or six are the rule.
    """

    num_merges: int = 1500
    num_rivals: int = 10
    max_rounds: int = 12

    name: ClassVar[str] = "data_mixture"
    needs: ClassVar[tuple[str, ...]] = ("texts",)
    is_default: ClassVar[bool] = False
    is_per_token: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if min(self.num_merges, self.num_rivals, self.max_rounds) < 1:
            raise ConfigError("num_merges, num_rivals and max_rounds must be at least 1")

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the shares as groups; the value is the share of the largest."""
        title = "Training data mixture"
        names = [name for name in sorted(given.texts) if any(given.texts[name])]
        if len(names) < 2 or not can_count_pretokens(given.vocabulary):
            detail = "needs a byte-level BPE tokenizer.json and texts of at least two categories"
            return MetricResult(self.name, title, None, detail=detail)
        merges = text_merges(given.vocabulary)
        rules = find_rules(merges, symbols_of(given.vocabulary), given.vocabulary.lengths)
        merges = merges[rules.fires][: self.num_merges]
        counts = [count_pretokens(given.vocabulary, given.texts[name]) for name in names]
        sizes = [sum(len(word) * n for word, n in count.items()) for count in counts]
        log = replay(counts, given.vocabulary.byte_ids, merges)
        shares = self._infer(log, np.array(sizes, dtype=np.float64))
        tokens = given.vocabulary.tokens
        largest = int(np.argmax(shares))
        return MetricResult(
            name=self.name,
            title=title,
            value=float(shares[largest]),
            unit="share",
            detail=f"from the order of {len(merges):,} merges; most is {names[largest]}",
            groups={name: float(share) for name, share in zip(names, shares, strict=True)},
            witnesses=[
                Witness(token, readable(tokens[token]), f"merge {i}")
                for i, token in enumerate(merges[:10, 2].tolist())
            ],
            series={"shares": Series("Mixture", "category", "share", names, shares.tolist())},
        )

    def _infer(self, log: ReplayLog, sizes: FloatArray) -> FloatArray:
        """Return the mixture; add the rows that the last one breaks until none is left."""
        program = _Program(len(log.merged), len(sizes))
        shares: FloatArray = np.full(len(sizes), 1 / len(sizes))
        for _ in range(self.max_rounds):
            known = len(program.rows)
            _add_rivals(program, log, shares, sizes, self.num_rivals)
            if len(program.rows) == known:
                break
            shares = program.solve()
        return shares


@dataclass
class _Program:
    """The linear program of Eq. 3 over the rows found so far.

    Attributes:
        num_steps: Merges.
        num_categories: Categories of text.
        rows: By merge and rival: how much rarer the rival is, shape (categories,).
        step_slack: By how much each merge may break the order, shape (merges,).
        pair_slack: The same by rival.
    """

    num_steps: int
    num_categories: int
    rows: dict[tuple[int, int], FloatArray] = field(default_factory=dict)
    step_slack: FloatArray = field(default_factory=lambda: np.zeros(0))
    pair_slack: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.step_slack = np.zeros(self.num_steps)

    def solve(self) -> FloatArray:
        """Return the mixture that violates the order of merges least, shape (categories,)."""
        linprog, coo_matrix = _scipy()
        pairs = {pair: i for i, pair in enumerate(sorted({pair for _, pair in self.rows}))}
        num_free, num_rows = self.num_categories, len(self.rows)
        size = num_free + self.num_steps + len(pairs)
        margins = np.array(list(self.rows.values()))
        steps = np.array([num_free + step for step, _ in self.rows])
        rivals = np.array([num_free + self.num_steps + pairs[pair] for _, pair in self.rows])
        at = np.arange(num_rows)
        row_index = np.concatenate([np.repeat(at, num_free), at, at])
        columns = np.concatenate([np.tile(np.arange(num_free), num_rows), steps, rivals])
        values = np.concatenate([-margins.ravel(), np.full(2 * num_rows, -1.0)])
        is_slack = np.arange(size) >= num_free
        found = linprog(
            c=is_slack.astype(np.float64),
            A_ub=coo_matrix((values, (row_index, columns)), shape=(num_rows, size)),
            b_ub=np.zeros(num_rows),
            A_eq=coo_matrix((~is_slack).astype(np.float64)[None]),
            b_eq=[1.0],
            method="highs",
        )
        self.step_slack = found.x[num_free : num_free + self.num_steps]
        slack = found.x[num_free + self.num_steps :]
        self.pair_slack = {pair: float(slack[i]) for pair, i in pairs.items()}
        raw = np.clip(found.x[:num_free], 0, 1)
        shares: FloatArray = raw / raw.sum()
        return shares


def _add_rivals(
    program: _Program, log: ReplayLog, shares: FloatArray, sizes: FloatArray, number: int
) -> None:
    """Add, for each merge, the rows that the mixture breaks most."""
    weights = shares / sizes
    slack = np.zeros(len(log.pairs))
    slack[list(program.pair_slack)] = list(program.pair_slack.values())
    scores = np.zeros(len(log.pairs))
    for step, counts, changed in log.walk():
        scores[changed] = counts[changed] @ weights - slack[changed]
        merged = int(log.merged[step])
        if merged < 0:
            continue
        own = float(counts[merged] @ weights) + program.step_slack[step]
        rivals = np.flatnonzero(scores > own + _MARGIN)
        if len(rivals) > number:
            rivals = rivals[np.argpartition(-scores[rivals], number)[:number]]
        for rival in rivals.tolist():
            if rival != merged:
                margin = (counts[merged] - counts[rival]) / sizes
                program.rows.setdefault((step, rival), margin)


def _scipy() -> tuple[Any, Any]:
    try:
        from scipy.optimize import linprog
        from scipy.sparse import coo_matrix
    except ImportError as error:
        raise MissingExtraError(
            "data_mixture solves a linear program with scipy, which is not installed",
            hint="pip install scipy",
        ) from error
    return linprog, coo_matrix
