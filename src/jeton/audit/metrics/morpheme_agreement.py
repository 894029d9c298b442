"""Morpheme agreement: whether tokens end where morphemes end.

Source: Batsuren et al. 2022, The SIGMORPHON 2022 Shared Task on Morpheme Segmentation,
    https://arxiv.org/abs/2206.07615 (boundary precision, recall and F1)
Differs from the source: the segmentation is the tokenizer's; words stand inside a sentence.
Cost: one encoding per word.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from jeton.audit.contract import MAX_WITNESSES, MetricResult, Witness
from jeton.audit.encoding import cut_word, readable
from jeton.audit.evidence import AuditInput


@dataclass(frozen=True, slots=True)
class MorphemeAgreement:
    """F1 of token borders against morpheme borders inside words."""

    name: ClassVar[str] = "morpheme_agreement"
    needs: ClassVar[tuple[str, ...]] = ("segmentation",)
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = True

    def measure(self, given: AuditInput) -> MetricResult:
        """Return F1; `groups` has precision and recall. Words kept whole lower the recall."""
        assert given.segmentation is not None
        shared = num_tokens = num_morphemes = 0
        wrong = []
        for word, morphemes in sorted(given.segmentation.items()):
            pieces = cut_word(given.vocabulary, word)
            found = borders(pieces)
            right = borders([part.encode() for part in morphemes])
            shared += len(found & right)
            num_tokens += len(found)
            num_morphemes += len(right)
            if found - right:
                cut = "|".join(readable(piece) for piece in pieces)
                wrong.append(Witness(None, word, f"{cut}, not {'|'.join(morphemes)}"))
        precision = shared / num_tokens if num_tokens else 0.0
        recall = shared / num_morphemes if num_morphemes else 0.0
        total = precision + recall
        return MetricResult(
            name=self.name,
            title="Agreement with morphemes",
            value=2 * precision * recall / total if total else 0.0,
            unit="share",
            is_lower_better=False,
            detail=f"{shared:,} of {num_morphemes:,} morpheme borders are token borders; "
            f"{num_tokens - shared:,} token borders are inside a morpheme",
            groups={"precision": precision, "recall": recall},
            witnesses=wrong[:MAX_WITNESSES],
        )


def borders(pieces: Sequence[bytes]) -> set[int]:
    """Return the byte offsets between pieces.

    Example:
        >>> sorted(borders([b"un", b"do", b"ing"]))
        [2, 4]
    """
    found, end = set(), 0
    for piece in pieces[:-1]:
        end += len(piece)
        found.add(end)
    return found
