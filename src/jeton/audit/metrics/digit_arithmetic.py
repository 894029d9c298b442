"""Digit arithmetic: additions whose digit groups line up by place value, or do not.

Source: Singh & Strouse 2024, Tokenization counts, https://arxiv.org/abs/2402.14903 (left-to-right
    groups of unequal lengths misalign, and models err there)
Differs from the source: generates the items and tells which align; a model that is given chooses
    the sum among itself and sums with one digit changed.
Cost: one encoding per number; with a model, ten forwards of it per item.
"""

import random
from dataclasses import dataclass
from typing import ClassVar

from jeton.audit.asking import accuracy_by, choose
from jeton.audit.contract import MAX_WITNESSES, MetricResult, Witness
from jeton.audit.encoding import cut_word
from jeton.audit.evidence import AuditInput
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError

_NUM_MISSES = 9


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
        accuracy = self._accuracy(given, items)
        said = "; the model: " + ", ".join(f"{n} {v:.0%}" for n, v in accuracy.items())
        return MetricResult(
            name=self.name,
            title="Additions whose digit groups line up",
            value=aligned / len(items),
            unit="share",
            is_lower_better=False,
            detail=f"{aligned} of {len(items)} generated additions{said if accuracy else ''}",
            groups={"aligned": float(aligned), "crooked": float(len(crooked))}
            | {f"accuracy, {name}": value for name, value in accuracy.items()},
            witnesses=[Witness(None, i.question, i.answer) for i in crooked[:MAX_WITNESSES]],
        )

    def _accuracy(self, given: AuditInput, items: list[Addition]) -> dict[str, float]:
        """Return the model's share of right answers, for numbers that line up and for others."""
        if given.model is None:
            return {}
        generator = random.Random(given.seed)
        options = [[item.answer, *_near_misses(item.answer, generator)] for item in items]
        prompts = [f"2356 + 1421 = 3777\n{item.question}" for item in items]
        answers = [[f" {answer}" for answer in own] for own in options]
        chosen = choose(given.model, given.vocabulary, prompts, answers)
        right = [index == 0 for index in chosen]
        labels = ["aligned" if item.is_aligned else "crooked" for item in items]
        return {"all": sum(right) / len(right)} | accuracy_by(right, labels)


def _near_misses(answer: str, generator: random.Random) -> list[str]:
    """Return nine numbers of the same length that differ in one digit."""
    found: dict[str, None] = {}
    while len(found) < _NUM_MISSES:
        place = generator.randrange(len(answer))
        digit = generator.choice([d for d in "123456789" if d != answer[place]])
        found[answer[:place] + digit + answer[place + 1 :]] = None
    return list(found)


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
