"""Worst-case latency: how much slower than ordinary text the worst text is to encode.

Source: common practice; long runs without a pretoken border have taken servers down
    (https://github.com/openai/tiktoken/issues/15, quadratic merging of one pretoken).
Differs from the source: nothing.
Cost: about a second.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from jeton.audit.contract import MetricResult, Witness
from jeton.audit.evidence import AuditInput
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError

_PROSE = "The quick brown fox jumps over the lazy dog, and nobody minds at all. "
_PATTERNS = {
    "one letter": "a",
    "spaces": " ",
    "newlines": "\n",
    "digits": "1234567890",
    "punctuation": "!?.,;:",
    "no spaces": "thequickbrownfoxjumps",
    "Chinese": "人人生而自由在尊严和权利上一律平等",
    "Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระ",
    "emoji": "👩‍🚀🦙",
    "mixed case": "aAbBcC",
}


@dataclass(frozen=True, slots=True)
class WorstCaseLatency:
    """Time per byte of the worst of ten patterns, over that of prose.

    Attributes:
        size_bytes: Length of each text.
        repeats: The best of so many runs counts.
        clock: Returns seconds; CPU time of this process by default.
    """

    size_bytes: int = 20_000
    repeats: int = 3
    clock: Callable[[], float] = time.process_time

    name: ClassVar[str] = "worst_case_latency"
    needs: ClassVar[tuple[str, ...]] = ()
    is_default: ClassVar[bool] = False
    is_per_token: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.size_bytes < 100 or self.repeats < 1:
            raise ConfigError(
                f"size_bytes must be at least 100 and repeats at least 1, "
                f"got {self.size_bytes} and {self.repeats}"
            )

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the ratio of the worst pattern; it depends on the machine."""
        given.vocabulary.encode_lossy(_PROSE)  # starts the engine
        usual = self._seconds_per_byte(given.vocabulary, _PROSE)
        ratios = {
            name: self._seconds_per_byte(given.vocabulary, pattern) / usual
            for name, pattern in _PATTERNS.items()
        }
        worst = max(ratios, key=lambda name: (ratios[name], name))
        return MetricResult(
            name=self.name,
            title="Worst-case time to encode",
            value=ratios[worst],
            unit="ratio",
            is_lower_better=True,
            detail=f"{worst}: {ratios[worst]:.1f} times the time of prose, "
            f"which takes {usual * 1e9:.0f} ns per byte",
            groups=ratios,
            witnesses=[Witness(None, _PATTERNS[worst] * 2, f"repeated to {self.size_bytes} bytes")],
        )

    def _seconds_per_byte(self, vocabulary: Vocabulary, pattern: str) -> float:
        text = pattern * (self.size_bytes // len(pattern.encode()) + 1)
        times = []
        for _ in range(self.repeats):
            start = self.clock()
            vocabulary.encode_lossy(text)
            times.append(self.clock() - start)
        return max(min(times), 1e-9) / len(text.encode())
