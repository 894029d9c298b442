"""A2SF: accumulated attention with a forgetting factor, so that old tokens gain no head start.

Source: Jo and Shin 2024, https://arxiv.org/abs/2407.20485, equations 3 and 4
Differs from the source: evicts every `stride` tokens, not every token; grouped heads add up.
Cost: as H2O.
"""

from dataclasses import dataclass

from jeton.errors import ConfigError
from jeton.kv.observed import MassPolicy


@dataclass(frozen=True, slots=True)
class A2SF(MassPolicy):
    """Accumulated attention, the older the query the less it counts.

    Attributes:
        forgetting: What remains of a score after one token.
    """

    recent: int = 16
    forgetting: float = 0.99

    def __post_init__(self) -> None:
        MassPolicy.__post_init__(self)
        if not 0.0 < self.forgetting <= 1.0:
            raise ConfigError(f"A2SF needs 0 < forgetting <= 1, got {self.forgetting}")

    @property
    def decay(self) -> float:
        """By what the mass shrinks with every token."""
        return self.forgetting
