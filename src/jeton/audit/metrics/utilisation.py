"""Utilisation: the share of the vocabulary that a text uses at all.

Source: common practice; rows of the embedding beyond the Zipf curve are paid for nothing.
Differs from the source: special, added and unused ids are left out of both counts.
Cost: one encoding of the text.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jeton.audit.contract import MetricResult, Series
from jeton.audit.evidence import AuditInput, IntArray

_NUM_POINTS = 60


@dataclass(frozen=True, slots=True)
class Utilisation:
    """Share of the text tokens that occur in the text, with the rank-frequency curve."""

    name: ClassVar[str] = "utilisation"
    needs: ClassVar[tuple[str, ...]] = ("texts",)
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = True

    def measure(self, given: AuditInput) -> MetricResult:
        """Return used tokens over text tokens, in all and per group."""
        ids = given.text_ids
        counts = given.token_counts[ids]
        num_used = int((counts > 0).sum())
        ranks, frequencies = _zipf(counts)
        return MetricResult(
            name=self.name,
            title="Vocabulary used",
            value=num_used / len(ids) if len(ids) else None,
            unit="share",
            is_lower_better=False,
            detail=f"{num_used:,} of {len(ids):,} text tokens occur; "
            f"{_num_to_cover(counts, 0.95):,} of them cover 95% of the text",
            groups={
                name: float((group.token_counts[ids] > 0).mean()) if len(ids) else 0.0
                for name, group in given.groups.items()
            },
            series={"zipf": Series("Use by rank", "rank", "share of tokens", ranks, frequencies)},
        )


def _num_to_cover(counts: IntArray, share: float) -> int:
    """Return how many of the most frequent tokens make up a share of all occurrences.

    Example:
        >>> _num_to_cover(np.array([1, 60, 9, 30]), 0.95)
        3
    """
    ordered = np.sort(counts)[::-1].cumsum()
    if not len(ordered) or ordered[-1] == 0:
        return 0
    return int(np.searchsorted(ordered, share * ordered[-1])) + 1


def _zipf(counts: IntArray) -> tuple[list[float], list[float]]:
    """Return rank and relative frequency at logarithmically spaced ranks."""
    ordered = np.sort(counts[counts > 0])[::-1]
    if not len(ordered):
        return [], []
    ranks = np.unique(np.geomspace(1, len(ordered), _NUM_POINTS).round().astype(np.int64))
    return [float(r) for r in ranks], [float(f) for f in ordered[ranks - 1] / ordered.sum()]
