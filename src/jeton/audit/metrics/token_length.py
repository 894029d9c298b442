"""Token length: bytes of the tokens of the vocabulary, and of those that a text uses.

Source: common practice.
Differs from the source: nothing.
Cost: one pass over the vocabulary.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jeton.audit.contract import MetricResult, Series, Witness
from jeton.audit.encoding import readable
from jeton.audit.evidence import AuditInput, FloatArray

_LAST_BIN = 20


@dataclass(frozen=True, slots=True)
class TokenLength:
    """Mean length of a text token, with histograms by type and by use."""

    name: ClassVar[str] = "token_length"
    needs: ClassVar[tuple[str, ...]] = ()
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = True

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the mean bytes per vocabulary entry; witnesses are the longest tokens."""
        ids = given.text_ids
        lengths = given.token_lengths[ids]
        tokens = given.vocabulary.tokens
        longest = sorted(map(int, ids), key=lambda i: (-len(tokens[i]), i))[:10]
        by_type = _histogram(lengths.astype(np.float64), np.ones(len(ids)))
        series = {"by_type": _series("Length by type", "tokens of the vocabulary", by_type)}
        counts = given.token_counts[ids].astype(np.float64)
        if counts.sum():
            by_use = _histogram(lengths.astype(np.float64), counts)
            series["by_use"] = _series("Length by use", "tokens of the text", by_use)
        return MetricResult(
            name=self.name,
            title="Mean token length",
            value=float(lengths.mean()) if len(ids) else None,
            unit="bytes",
            detail=f"median {np.median(lengths):.0f}, longest {lengths.max():,} bytes"
            if len(ids)
            else "the vocabulary has no text tokens",
            witnesses=[
                Witness(i, readable(tokens[i][:60]), f"{len(tokens[i]):,} bytes") for i in longest
            ],
            series=series,
        )


def _histogram(lengths: FloatArray, weights: FloatArray) -> list[float]:
    """Return the share of weight at each length 1..20, the last bin holding longer ones too."""
    bins = np.clip(lengths, 1, _LAST_BIN).astype(np.int64)
    total = np.bincount(bins, weights=weights, minlength=_LAST_BIN + 1)[1:]
    return [float(share) for share in total / max(1.0, total.sum())]


def _series(title: str, of_what: str, shares: list[float]) -> Series:
    labels = [str(n) for n in range(1, _LAST_BIN)] + [f"{_LAST_BIN}+"]
    return Series(title, "bytes", f"share of the {of_what}", labels, shares)
