"""Knorm: keep the tokens whose keys are short.

Source: Devoto et al. 2024, https://arxiv.org/abs/2406.11430, section 4
Differs from the source: keeps recent tokens too; evicts every `stride` tokens.
Cost: one norm per key and eviction.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from jeton.kv.contract import Rows
from jeton.kv.evict import EvictPolicy


@dataclass(frozen=True, slots=True)
class Knorm(EvictPolicy):
    """Minus the L2 norm of the key."""

    sinks: int = 0
    recent: int = 16

    def score(self, rows: Rows) -> Tensor:
        """Return minus the length of each key.

        Args:
            rows: Of any kind.
        """
        lengths: Tensor = torch.linalg.vector_norm(rows.keys.float(), dim=-1)
        return -lengths
