"""Streaming: keep the first tokens and the last ones.

Source: Xiao et al. 2023 (StreamingLLM), https://arxiv.org/abs/2309.17453, section 3.2
Differs from the source: keys keep their rotary positions; evicts every `stride` tokens.
Cost: nothing.
"""

from dataclasses import dataclass

from torch import Tensor

from jeton.kv.contract import Rows
from jeton.kv.evict import EvictPolicy


@dataclass(frozen=True, slots=True)
class Streaming(EvictPolicy):
    """Sinks and a window; what of the budget is no sink is recent."""

    recent: int = 1

    def score(self, rows: Rows) -> Tensor:
        """Return the position of each row: the later the better.

        Args:
            rows: Of any kind.
        """
        return rows.positions.float()
