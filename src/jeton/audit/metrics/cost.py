"""Cost: what a million characters cost at a price per million tokens.

Source: common practice.
Differs from the source: nothing.
Cost: one encoding of the text.
"""

from dataclasses import dataclass
from typing import ClassVar

from jeton.audit.contract import MetricResult
from jeton.audit.evidence import AuditInput
from jeton.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Cost:
    """Price of a million characters, in all and per group.

    Attributes:
        price: Price of a million tokens, in any currency.
    """

    price: float = 1.0

    name: ClassVar[str] = "cost"
    needs: ClassVar[tuple[str, ...]] = ("texts",)
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.price > 0:
            raise ConfigError(f"price must be positive, got {self.price}")

    def measure(self, given: AuditInput) -> MetricResult:
        """Return tokens per character times the price."""
        num_chars = sum(group.num_chars for group in given.groups.values())
        value = self.price * given.num_tokens / num_chars if num_chars else None
        return MetricResult(
            name=self.name,
            title="Cost of a million characters",
            value=value,
            unit=f"at {self.price:g} per million tokens",
            is_lower_better=True,
            detail=f"{given.num_tokens:,} tokens for {num_chars:,} characters",
            groups={
                name: self.price * group.num_tokens / group.num_chars
                for name, group in given.groups.items()
                if group.num_chars
            },
        )
