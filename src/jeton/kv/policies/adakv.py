"""AdaKV: the heads of a layer share its budget, those with spread attention get more.

Source: Feng et al. 2024, https://arxiv.org/abs/2407.11550, Algorithm 1
Differs from the source: the scores are the attention of the last 64 queries, average-pooled by 5,
mean over grouped heads; a head's share is settled at the first eviction.
Cost: as SnapKV; one attention call per head, so it pays at small budgets only.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jeton.errors import ConfigError
from jeton.kv.evict import best_rows
from jeton.kv.observed import PooledPolicy


@dataclass(frozen=True, slots=True)
class AdaKV(PooledPolicy):
    """The best rows of all heads together, with a floor for each head.

    Attributes:
        floor: Part of the equal share that every head keeps.
    """

    divides_heads: ClassVar[bool] = True

    floor: float = 0.2

    def __post_init__(self) -> None:
        PooledPolicy.__post_init__(self)
        if not 0.0 <= self.floor <= 1.0:
            raise ConfigError(f"AdaKV needs a floor in [0, 1], got {self.floor}")

    def head_budgets(self, scores: Tensor, budget: int) -> list[int]:
        """Return how many of the layer's best rows lie in each head.

        Args:
            scores: +inf for rows that must stay, -inf for padding, shape (kv_heads, rows).
            budget: Of the layer, per head.
        Returns:
            One number per head; they add up to kv_heads * budget.
        """
        kv_heads, num_rows = scores.shape
        least = max(int(self.floor * budget), int((scores == float("inf")).sum(-1).max()))
        floor = best_rows(scores[None], least)[0]
        ranked = scores.scatter(1, floor, float("inf")).flatten()
        best = torch.sort(ranked, descending=True, stable=True).indices[: kv_heads * budget]
        counts = torch.bincount(best // num_rows, minlength=kv_heads)
        return [int(count) for count in counts]
