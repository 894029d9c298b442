"""Digit arithmetic: additions whose digit groups line up by place value, or do not.

Source: Singh & Strouse 2024, Tokenization counts, https://arxiv.org/abs/2402.14903 (left-to-right
    groups of unequal lengths misalign, and models err there)
Differs from the source: generates the items and tells which align; a model is scored elsewhere.
Cost: one encoding per number.
"""

import random
from dataclasses import dataclass
from typing import ClassVar

from jeton.audit.contract import MAX_WITNESSES, MetricResult, Witness
from jeton.audit.encoding import cut_word
from jeton.audit.evidence import AuditInput
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Addition:
    """An addition.

    Attributes:
        question: For a model.
        answer: The sum.
        is_aligned: Whether all three numbers are cut at the same places counted from the right.
    """

    question: str
    answer: str
    is_aligned: bool


@dataclass(frozen=True, slots=True)
class DigitArithmetic:
    """Share of additions whose numbers are cut at the same places from the right.

    Attributes:
        num_items: Additions to generate, of 4 to 9 digits.
    """

    num_items: int = 200

    name: ClassVar[str] = "digit_arithmetic"
    needs: ClassVar[tuple[str, ...]] = ()
    is_default: ClassVar[bool] = False
    is_per_token: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.num_items < 1:
            raise ConfigError(f"num_items must be at least 1, got {self.num_items}")

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the share; witnesses are additions that do not line up."""
        items = make_additions(given.vocabulary, self.num_items, given.seed)
        aligned = sum(item.is_aligned for item in items)
        crooked = [item for item in items if not item.is_aligned]
        return MetricResult(
            name=self.name,
            title="Additions whose digit groups line up",
            value=aligned / len(items),
            unit="share",
            is_lower_better=False,
            detail=f"{aligned} of {len(items)} generated additions",
            groups={"aligned": float(aligned), "crooked": float(len(crooked))},
            witnesses=[Witness(None, i.question, i.answer) for i in crooked[:MAX_WITNESSES]],
        )


def make_additions(vocabulary: Vocabulary, num_items: int, seed: int) -> list[Addition]:
    """Return additions, the same for the same seed."""
    generator = random.Random(seed)
    items = []
    for _ in range(num_items):
        a, b = (
            generator.randrange(10 ** (n - 1), 10**n) for n in generator.choices(range(4, 10), k=2)
        )
        cuts = [_places(vocabulary, str(number)) for number in (a, b, a + b)]
        shortest = min(len(str(number)) for number in (a, b, a + b))
        inner = [{place for place in cut if place < shortest} for cut in cuts]
        items.append(Addition(f"{a} + {b} =", str(a + b), inner[0] == inner[1] == inner[2]))
    return items


def _places(vocabulary: Vocabulary, number: str) -> set[int]:
    """Return where a number is cut, counted in digits from the right."""
    found, left = set(), len(number)
    for piece in cut_word(vocabulary, number)[:-1]:
        left -= sum(48 <= byte < 58 for byte in piece)
        found.add(left)
    return found - {0, len(number)}
