"""Digit rule: how a number is cut into tokens.

Source: Singh & Strouse 2024, Tokenization counts, https://arxiv.org/abs/2402.14903 (single digits,
    left-to-right and right-to-left groups differ in arithmetic)
Differs from the source: reads the rule off the tokenizer instead of asking a model.
Cost: a few hundred short encodings.
"""

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from jeton.audit.contract import MetricResult, Series, Witness
from jeton.audit.encoding import token_bytes
from jeton.audit.evidence import AuditInput
from jeton.core.vocabulary import Vocabulary

_DIGITS = "1234567890123456"
_NUM_SAMPLES = 40


@dataclass(frozen=True, slots=True)
class Digits:
    """Tokens per number of 1 to 16 digits, and the name of the rule behind them."""

    name: ClassVar[str] = "digits"
    needs: ClassVar[tuple[str, ...]] = ()
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = False

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the share of numbers cut as the main rule says; 1 means a strict rule."""
        rows = [
            [_cut(given.vocabulary, number) for number in numbers_of(length)]
            for length in range(1, len(_DIGITS) + 1)
        ]
        rule, share = name_rule([cut for row in rows for cut in row])
        means = [sum(map(len, row)) / len(row) for row in rows]
        return MetricResult(
            name=self.name,
            title="Digit rule",
            value=share,
            unit="share",
            is_lower_better=False,
            detail=f"{rule}; {share:.0%} of numbers follow it",
            groups={f"{n} digits": mean for n, mean in enumerate(means, start=1)},
            witnesses=[
                Witness(None, _DIGITS[:n], "|".join(_parts(given, n)))
                for n in range(1, len(_DIGITS) + 1)
            ],
            series={
                "tokens": Series(
                    "Tokens of a number",
                    "digits",
                    "tokens",
                    [float(n) for n in range(1, len(means) + 1)],
                    means,
                )
            },
        )


def numbers_of(length: int) -> list[str]:
    """Return numbers of a length, the same at every call, spread over the range."""
    if length == 1:
        return [str(d) for d in range(10)]
    low, high = 10 ** (length - 1), 10**length
    step = 0.6180339887498949  # golden ratio: an even spread without a generator
    return [str(low + int((i * step) % 1 * (high - low))) for i in range(_NUM_SAMPLES)]


def name_rule(cuts: list[tuple[int, ...]]) -> tuple[str, float]:
    """Return the rule that most numbers follow and the share that does.

    Args:
        cuts: For each number, the digits in each of its tokens.

    Example:
        >>> name_rule([(1, 1), (1, 1, 1)])
        ('single digits', 1.0)
    """
    counts = Counter(rule for cut in cuts for rule in _rules_of(cut))
    informative = [cut for cut in cuts if sum(cut) > 1]
    if not informative:
        return "no numbers", 0.0
    best = max(sorted(counts), key=lambda rule: counts[rule])
    share = counts[best] / len(cuts)
    return (best, share) if share >= 0.5 else ("learned pieces, no rule", share)


def _rules_of(cut: tuple[int, ...]) -> list[str]:
    """Return the names of the rules that would give this cut."""
    length = sum(cut)
    rules = ["single digits"] if all(n == 1 for n in cut) else []
    for size in (2, 3, 4):
        whole, rest = divmod(length, size)
        left = (size,) * whole + ((rest,) if rest else ())
        if cut == left:
            rules.append(f"groups of {size} from the left")
        if cut == left[::-1]:
            rules.append(f"groups of {size} from the right")
    if len(cut) == 1:
        rules.append("whole numbers")
    return rules


def _cut(vocabulary: Vocabulary, number: str) -> tuple[int, ...]:
    """Return the digits in each token of a number, tokens without digits left out."""
    tokens = token_bytes(vocabulary, vocabulary.encode_lossy(number))
    counts = (sum(48 <= byte < 58 for byte in token) for token in tokens)
    return tuple(count for count in counts if count)


def _parts(given: AuditInput, length: int) -> list[str]:
    number = _DIGITS[:length]
    parts, start = [], 0
    for size in _cut(given.vocabulary, number):
        parts.append(number[start : start + size])
        start += size
    return parts
