"""SnapKV: keep the clusters of tokens that the last queries attend to.

Source: Li et al. 2024, https://arxiv.org/abs/2404.14469, Listing 1
Differs from the source: average pooling (the source offers both); scores of grouped heads are
averaged; while decoding it evicts again every `stride` tokens, with the last queries of then.
Cost: the attention of 64 queries at the end of the prompt and every `stride` tokens.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from jeton.errors import ConfigError
from jeton.kv.contract import Rows
from jeton.kv.evict import EvictPolicy, pooled_window_mass


@dataclass(frozen=True, slots=True)
class SnapKV(EvictPolicy):
    """Attention of the last 64 queries, pooled over neighbours.

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
            raise ConfigError(f"SnapKV needs an odd pool >= 1, got {self.pool}")

    def score(self, rows: Rows) -> Tensor:
        """Return the pooled attention of the last queries.

        Args:
            rows: With queries.
        """
        return pooled_window_mass(rows, self.window, pool=self.pool, recent=self.recent)
