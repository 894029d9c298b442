"""What the ids of a vocabulary are: text, bytes, special, added, unused.

Source: common practice.
Differs from the source: nothing.
Cost: one pass over the vocabulary.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jeton.audit.contract import MetricResult, Witness
from jeton.audit.encoding import readable
from jeton.audit.evidence import AuditInput
from jeton.core.vocabulary import TokenKind


@dataclass(frozen=True, slots=True)
class TokenKinds:
    """Number of ids of each kind; the value is the number that stands for nothing."""

    name: ClassVar[str] = "token_kinds"
    needs: ClassVar[tuple[str, ...]] = ()
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = True

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the number of unused ids, and counts per kind as groups."""
        vocabulary = given.vocabulary
        kinds = np.asarray(vocabulary.kinds)
        counts = {kind.name.lower(): int((kinds == kind).sum()) for kind in TokenKind}
        spans = sum(b" " in token.strip(b" ") for token in vocabulary.tokens)
        parts = [f"{count:,} {name}" for name, count in counts.items() if count]
        added = sorted(vocabulary.added_tokens.items(), key=lambda item: item[1])
        return MetricResult(
            name=self.name,
            title="Unused ids",
            value=float(counts["unused"]),
            is_lower_better=True,
            detail=f"{', '.join(parts)}; {spans:,} tokens span a space between words",
            groups={name: float(count) for name, count in counts.items()},
            witnesses=[
                Witness(i, readable(name.encode()), "added token") for name, i in added[:10]
            ],
        )
