"""TOVA: drop the tokens that the last query attends to least.

Source: Oren et al. 2024, https://arxiv.org/abs/2401.06104, section 4.2
Differs from the source: evicts every `stride` tokens, not every token; heads of a group are
averaged, groups choose for themselves (the source averages all heads of a layer).
Cost: the attention of one query per eviction.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from jeton.kv.contract import Rows
from jeton.kv.evict import EvictPolicy, window_mass


@dataclass(frozen=True, slots=True)
class TOVA(EvictPolicy):
    """Attention of the last query."""

    needs: ClassVar[frozenset[str]] = frozenset({"queries"})
    window: ClassVar[int] = 1

    sinks: int = 0
    recent: int = 1

    def score(self, rows: Rows) -> Tensor:
        """Return the attention of the last query.

        Args:
            rows: With queries.
        """
        return window_mass(rows, self.window)
