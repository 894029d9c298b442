"""Redundant merges: rules of a BPE that can never fire.

Source: Hayase et al. 2024, Data Mixture Inference, https://arxiv.org/abs/2407.16607, appendix on
    redundant merges in converted SentencePiece tokenizers
Differs from the source: exact for every merge list (`jeton.audit.merges`), not by pattern.
Cost: a fraction of a second.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jeton.audit.contract import MAX_WITNESSES, MetricResult, Witness
from jeton.audit.encoding import readable
from jeton.audit.evidence import AuditInput
from jeton.audit.merges import find_rules, symbols_of, text_merges


@dataclass(frozen=True, slots=True)
class RedundantMerges:
    """Number of merges that can go without changing any encoding."""

    name: ClassVar[str] = "redundant_merges"
    needs: ClassVar[tuple[str, ...]] = ()
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = True

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the number of redundant merges; None for models without merges."""
        vocabulary = given.vocabulary
        title = "Merges that never fire"
        merges = text_merges(vocabulary)
        if not len(merges):
            return MetricResult(self.name, title, None, detail="the model has no merges")
        rules = find_rules(merges, symbols_of(vocabulary), vocabulary.lengths)
        surplus = np.flatnonzero(~rules.fires)
        witnesses = []
        for row in surplus[:MAX_WITNESSES]:
            left, right, result = merges[row].tolist()
            parts = f"{readable(vocabulary.tokens[left])} + {readable(vocabulary.tokens[right])}"
            built = "is built by another merge" if rules.rule[result] >= 0 else "is never built"
            witnesses.append(Witness(result, parts, f"merge {row}: the result {built}"))
        return MetricResult(
            name=self.name,
            title=title,
            value=float(len(surplus)),
            is_lower_better=True,
            detail=f"{len(surplus):,} of {len(merges):,} merges can go; no encoding changes",
            witnesses=witnesses,
        )
