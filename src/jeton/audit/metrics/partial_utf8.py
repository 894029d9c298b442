"""Partial UTF-8: tokens that are pieces of characters, which no one can read or stream alone.

Source: common practice for byte-level vocabularies.
Differs from the source: nothing.
Cost: one pass over the vocabulary.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jeton.audit.contract import MetricResult, Witness
from jeton.audit.encoding import readable
from jeton.audit.evidence import AuditInput


@dataclass(frozen=True, slots=True)
class PartialUtf8:
    """Number of tokens that are not UTF-8 by themselves; `groups` has their share in each text."""

    name: ClassVar[str] = "partial_utf8"
    needs: ClassVar[tuple[str, ...]] = ()
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = True

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the number of such tokens; single bytes among them are said in the detail."""
        tokens = given.vocabulary.tokens
        partial = np.array([not _is_utf8(token) for token in tokens], dtype=bool)
        ids = np.flatnonzero(partial)
        longer = [int(i) for i in ids if len(tokens[i]) > 1]
        counts = given.token_counts
        most_used = sorted(longer, key=lambda i: (-int(counts[i]), i))[:10]
        share = f", {counts[partial].sum() / counts.sum():.1%} of the text" if counts.sum() else ""
        return MetricResult(
            name=self.name,
            title="Tokens that are pieces of characters",
            value=float(len(ids)),
            is_lower_better=True,
            detail=f"{len(ids) - len(longer):,} single bytes and {len(longer):,} longer{share}",
            groups={
                name: float(group.token_counts[partial].sum() / group.num_tokens)
                for name, group in given.groups.items()
                if group.num_tokens
            },
            witnesses=[
                Witness(i, readable(tokens[i]), f"occurs {int(counts[i]):,} times")
                for i in most_used
            ],
        )


def _is_utf8(token: bytes) -> bool:
    try:
        token.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
