"""Duplicates: ids whose bytes another id has too.

Source: common practice; Llama and Mistral vocabularies have about a hundred.
Differs from the source: nothing.
Cost: one pass over the vocabulary.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import ClassVar

from jeton.audit.contract import MAX_WITNESSES, MetricResult, Witness
from jeton.audit.encoding import readable
from jeton.audit.evidence import AuditInput


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Number of ids beyond the first with the same bytes; special and unused ids do not count."""

    name: ClassVar[str] = "duplicates"
    needs: ClassVar[tuple[str, ...]] = ()
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = True

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the number of surplus ids."""
        tokens = given.vocabulary.tokens
        repeated = {token for token, count in Counter(tokens).items() if token and count > 1}
        ids_of: defaultdict[bytes, list[int]] = defaultdict(list)
        for token_id, token in enumerate(tokens if repeated else ()):
            if token in repeated:
                ids_of[token].append(token_id)
        shared = list(ids_of.items())
        surplus = sum(len(ids) - 1 for _, ids in shared)
        return MetricResult(
            name=self.name,
            title="Duplicate tokens",
            value=float(surplus),
            is_lower_better=True,
            detail=f"{surplus:,} ids have the bytes of another id"
            if surplus
            else "no two ids have the same bytes",
            witnesses=[
                Witness(ids[-1], readable(token), f"same bytes as id {ids[0]}")
                for token, ids in shared[:MAX_WITNESSES]
            ],
        )
