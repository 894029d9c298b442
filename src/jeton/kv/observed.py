"""Evicting policies that rank by attention they saw: of all queries so far, or of the last ones."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from jeton.errors import ConfigError
from jeton.kv.contract import Rows
from jeton.kv.evict import EvictPolicy, window_mass


@dataclass(frozen=True, slots=True)
class MassPolicy(EvictPolicy):
    """Ranks by accumulated attention; no sinks, since first tokens are heavy by themselves."""

    needs: ClassVar[frozenset[str]] = frozenset({"mass"})

    sinks: int = 0

    def score(self, rows: Rows) -> Tensor:
        """Return the attention that each row got so far.

        Args:
            rows: With mass.
        """
        assert rows.mass is not None
        return rows.mass


@dataclass(frozen=True, slots=True)
class PooledPolicy(EvictPolicy):
    """Ranks by the attention of the last queries, pooled over neighbours.

    Attributes:
        pool: Neighbours whose scores are averaged; odd.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"queries"})
    window: ClassVar[int] = 64

    sinks: int = 0
    pool: int = 5

    def __post_init__(self) -> None:
        EvictPolicy.__post_init__(self)
        if self.pool < 1 or self.pool % 2 == 0:
            raise ConfigError(f"{type(self).__name__} needs an odd pool >= 1, got {self.pool}")

    def score(self, rows: Rows) -> Tensor:
        """Return the pooled attention of the last queries; what stays anyway lends none.

        Args:
            rows: With queries.
        """
        lengths = rows.lengths.to(rows.positions.device)[:, None, None]
        lends = (rows.positions >= 0) & (rows.positions < lengths - self.recent)
        mass = window_mass(rows, self.window).masked_fill(~lends, 0.0)
        return functional.avg_pool1d(mass, self.pool, stride=1, padding=self.pool // 2)
