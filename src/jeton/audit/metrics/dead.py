"""Dead tokens: ids that no text can produce, each with its proof.

Source: Land & Bartolo 2024, Fishing for Magikarp, https://arxiv.org/abs/2405.05417 (unreachable
    tokens); Berglund et al. 2023, Formalizing BPE Tokenization, https://arxiv.org/abs/2309.08715
Differs from the source: re-encoding a token's own text gives false alarms, so a token counts as
    dead only by proof, and as alive only by a text that contains it (`jeton.audit.reachability`).
Cost: a few encodings of the vocabulary.
"""

from dataclasses import dataclass
from typing import ClassVar

from jeton.audit.contract import MAX_WITNESSES, MetricResult, Witness
from jeton.audit.encoding import readable
from jeton.audit.evidence import AuditInput
from jeton.audit.reachability import Reach


@dataclass(frozen=True, slots=True)
class Dead:
    """Number of ids proven dead; `groups` has the count of every state."""

    name: ClassVar[str] = "dead"
    needs: ClassVar[tuple[str, ...]] = ()
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = True

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the number of dead ids; those shadowed by an added token are counted apart."""
        found = given.reachability
        counts = {state.name.lower(): found.count(state) for state in Reach}
        dead = found.ids(Reach.DEAD)
        unknown = counts["unknown"]
        rest = f"; for {unknown:,} no text was found, nor a proof" if unknown else ""
        return MetricResult(
            name=self.name,
            title="Dead tokens",
            value=float(len(dead)),
            is_lower_better=True,
            detail=f"{counts['reachable']:,} tokens are reached by a text, "
            f"{len(dead):,} by none{rest}",
            groups={name: float(count) for name, count in counts.items()},
            witnesses=[
                Witness(i, readable(given.vocabulary.tokens[i]), found.reasons[i])
                for i in dead[:MAX_WITNESSES]
            ],
        )
