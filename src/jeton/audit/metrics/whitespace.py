"""White space: what indentation and line ends cost.

Source: common practice; code models add tokens for runs of spaces (Chen et al. 2021, Evaluating
    Large Language Models Trained on Code, https://arxiv.org/abs/2107.03374, section 3.2).
Differs from the source: nothing.
Cost: about a hundred short encodings.
"""

from dataclasses import dataclass
from typing import ClassVar

from jeton.audit.contract import MetricResult, Series, Witness
from jeton.audit.evidence import AuditInput
from jeton.core.vocabulary import Vocabulary

_DEPTHS = (4, 8, 12, 16, 20, 24)
_MAX_SPACES = 32
_LINE = "x = 1"


@dataclass(frozen=True, slots=True)
class Whitespace:
    """Tokens that one level of indentation adds to a line of code, on average."""

    name: ClassVar[str] = "whitespace"
    needs: ClassVar[tuple[str, ...]] = ()
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = False

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the mean extra tokens of a line indented by 4 to 24 spaces."""
        vocabulary = given.vocabulary
        plain = _length(vocabulary, f"\n{_LINE}")
        extra = {
            f"{n} spaces": float(_length(vocabulary, "\n" + " " * n + _LINE) - plain)
            for n in _DEPTHS
        }
        extra["tab"] = float(_length(vocabulary, f"\n\t{_LINE}") - plain)
        extra["2 tabs"] = float(_length(vocabulary, f"\n\t\t{_LINE}") - plain)
        extra["blank line"] = float(_length(vocabulary, f"{_LINE}\n\n{_LINE}")) - float(
            _length(vocabulary, f"{_LINE}\n{_LINE}")
        )
        runs = [float(_length(vocabulary, " " * n)) for n in range(1, _MAX_SPACES + 1)]
        value = sum(extra[f"{n} spaces"] for n in _DEPTHS) / len(_DEPTHS)
        longest = _longest_run(vocabulary)
        return MetricResult(
            name=self.name,
            title="Cost of indentation",
            value=value,
            unit="tokens per indented line",
            is_lower_better=True,
            detail=_describe(value, longest),
            groups=extra,
            witnesses=[Witness(None, "·" * longest, "the longest run of spaces in one token")],
            series={
                "runs": Series(
                    "Tokens of a run of spaces",
                    "spaces",
                    "tokens",
                    [float(n) for n in range(1, _MAX_SPACES + 1)],
                    runs,
                )
            },
        )


def _length(vocabulary: Vocabulary, text: str) -> int:
    return len(vocabulary.encode_lossy(text))


def _longest_run(vocabulary: Vocabulary) -> int:
    """Return the length of the longest token made of spaces alone."""
    return max((len(t) for t in vocabulary.tokens if t and not t.strip(b" ")), default=0)


def _describe(value: float, longest: int) -> str:
    runs = f"runs of up to {longest} spaces are one token" if longest > 1 else "no token has two"
    if value < 0.5:
        return f"indentation is nearly free or not kept; {runs}"
    return f"a line indented by 4 to 24 spaces costs {value:.1f} tokens more; {runs}"
