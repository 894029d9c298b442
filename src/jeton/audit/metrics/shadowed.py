"""Shadowed tokens: ids that an added token takes the text from before the model sees it.

Source: found in the wild (a KL3M vocabulary with a single space as an added token loses every
    entry with a space); no paper.
Differs from the source: nothing.
Cost: a few encodings of the vocabulary.
"""

from dataclasses import dataclass
from typing import ClassVar

from jeton.audit.contract import MAX_WITNESSES, MetricResult, Witness
from jeton.audit.encoding import readable
from jeton.audit.evidence import AuditInput
from jeton.audit.reachability import Reach


@dataclass(frozen=True, slots=True)
class Shadowed:
    """Number of ids that contain the text of an added token, which always matches first."""

    name: ClassVar[str] = "shadowed"
    needs: ClassVar[tuple[str, ...]] = ()
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = True

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the number of shadowed ids."""
        ids = given.reachability.ids(Reach.SHADOWED)
        return MetricResult(
            name=self.name,
            title="Tokens shadowed by added tokens",
            value=float(len(ids)),
            is_lower_better=True,
            detail=f"{len(ids):,} ids can never occur, because an added token matches inside them"
            if ids
            else "no added token takes text away from another token",
            witnesses=[
                Witness(i, readable(given.vocabulary.tokens[i]), given.reachability.reasons[i])
                for i in ids[:MAX_WITNESSES]
            ],
        )
