"""Context equivalent: how much of the reference text's content fits into a context window.

Source: Petrov et al. 2023, https://arxiv.org/abs/2305.15425, section 3 (long contexts)
Differs from the source: nothing.
Cost: one encoding of the parallel text.
"""

from dataclasses import dataclass
from typing import ClassVar

from jeton.audit.contract import MetricResult
from jeton.audit.evidence import AuditInput
from jeton.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ContextEquivalent:
    """Tokens of the reference language with the content of a full window; least over languages.

    Attributes:
        window: Tokens of the context.
    """

    window: int = 8192

    name: ClassVar[str] = "context_equivalent"
    needs: ClassVar[tuple[str, ...]] = ("texts", "parallel")
    is_default: ClassVar[bool] = True
    is_per_token: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ConfigError(f"window must be at least 1, got {self.window}")

    def measure(self, given: AuditInput) -> MetricResult:
        """Return the equivalent of the language that fits least."""
        base = given.groups[given.reference_group].num_tokens
        groups = {
            name: self.window * base / group.num_tokens
            for name, group in given.groups.items()
            if group.num_tokens
        }
        worst = min(groups, key=lambda name: (groups[name], name)) if groups else ""
        return MetricResult(
            name=self.name,
            title=f"What a window of {self.window:,} tokens is worth",
            value=groups[worst] if groups else None,
            unit=f"{given.reference_group} tokens",
            is_lower_better=False,
            detail=f"in {worst} it holds what {groups[worst]:,.0f} tokens of "
            f"{given.reference_group} hold"
            if groups
            else "the text has no tokens",
            groups=groups,
        )
