"""%valid words and %pure: tokens that are words of the language, or meaningful parts of them.

Source: Bayram et al. 2025, Tokenization Standards for Linguistic Integrity,
    https://arxiv.org/abs/2502.07057 (%TR and %Pure)
Differs from the source: any language with a lexicon; case is ignored.
Cost: one encoding of the text.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from jeton.audit.contract import MAX_WITNESSES, MetricResult, Witness
from jeton.audit.encoding import readable
from jeton.audit.evidence import AuditInput


@dataclass(frozen=True, slots=True)
class ValidWords:
    """Share of the distinct tokens of the text that are words; `pure` counts morphemes too."""

    name: ClassVar[str] = "valid_words"
    needs: ClassVar[tuple[str, ...]] = ("texts", "lexicon")
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = True

    def measure(self, given: AuditInput) -> MetricResult:
        """Return %valid words (%TR of the paper) as a share; `groups` has both."""
        assert given.lexicon is not None
        words = {word.casefold() for word in given.lexicon.words}
        parts = words | {part.casefold() for part in given.lexicon.morphemes}
        used = np.intersect1d(np.flatnonzero(given.token_counts), given.text_ids).tolist()
        texts = {i: readable(given.vocabulary.tokens[i]).strip().casefold() for i in used}
        valid = [i for i in used if texts[i] in words]
        pure = [i for i in used if texts[i] in parts]
        counts = given.token_counts
        neither = sorted(set(used) - set(pure), key=lambda i: (-int(counts[i]), i))
        return MetricResult(
            name=self.name,
            title="Tokens that are words",
            value=len(valid) / len(used) if used else None,
            unit="share",
            is_lower_better=False,
            detail=f"of {len(used):,} distinct tokens {len(valid):,} are words and "
            f"{len(pure):,} words or morphemes",
            groups={"valid": len(valid) / len(used), "pure": len(pure) / len(used)} if used else {},
            witnesses=[
                Witness(i, readable(given.vocabulary.tokens[i]), f"neither, {counts[i]:,} times")
                for i in neither[:MAX_WITNESSES]
            ],
        )
