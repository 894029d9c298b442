"""A2SF: accumulated attention with a forgetting factor, so that old tokens gain no head start.

Source: Jo and Shin 2024, https://arxiv.org/abs/2407.20485, equations 3 and 4
Differs from the source: evicts every `stride` tokens, not every token; grouped heads add up.
Cost: as H2O.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from jeton.errors import ConfigError
from jeton.kv.contract import Rows
from jeton.kv.evict import EvictPolicy


@dataclass(frozen=True, slots=True)
class A2SF(EvictPolicy):
    """Accumulated attention, the older the query the less it counts.

    Attributes:
        forgetting: What remains of a score after one token.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"mass"})

    sinks: int = 0
    recent: int = 16
    forgetting: float = 0.99

    def __post_init__(self) -> None:
        EvictPolicy.__post_init__(self)
        if not 0.0 < self.forgetting <= 1.0:
            raise ConfigError(f"A2SF needs 0 < forgetting <= 1, got {self.forgetting}")

    @property
    def decay(self) -> float:
        """By what the mass shrinks with every token."""
        return self.forgetting

    def score(self, rows: Rows) -> Tensor:
        """Return the forgetful attention that each row got.

        Args:
            rows: With mass.
        """
        assert rows.mass is not None
        return rows.mass
