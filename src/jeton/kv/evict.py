"""What evicting policies share: options, the choice of rows, scores from a window of queries."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from jeton.errors import ConfigError
from jeton.kv.contract import EVICT, CachePolicy, Rows
from jeton.kv.mass import attention_logits


@dataclass(frozen=True, slots=True)
class EvictPolicy(CachePolicy):
    """Drops rows for good: from the prompt once it is read, then every `stride` tokens.

    Attributes:
        stride: Committed tokens between two evictions.
    """

    kind: ClassVar[str] = EVICT
    window: ClassVar[int] = 0  # last queries that `score` sees
    divides_heads: ClassVar[bool] = False  # whether heads of a layer share its budget unequally

    stride: int = 16

    def __post_init__(self) -> None:
        CachePolicy.__post_init__(self)
        if self.stride < 1:
            raise ConfigError(f"{type(self).__name__} needs a stride >= 1, got {self.stride}")

    @property
    def decay(self) -> float:
        """By what the mass shrinks with every token."""
        return 1.0

    def temperature(self, step: int) -> float:
        """Return the temperature of the mass, `step` tokens after the prompt."""
        return 1.0

    def noise(self, layer_index: int, num_heads: int, num_positions: int) -> Tensor | None:
        """Return what is added to the logits of the mass, shape (heads, positions), or None."""
        return None

    @abstractmethod
    def score(self, rows: Rows) -> Tensor:
        """Return how much each row is worth, shape (batch, kv_heads, rows), float32."""

    def head_budgets(self, scores: Tensor, budget: int) -> list[int]:
        """Return how many rows each head of one text keeps; asked when `divides_heads`.

        Args:
            scores: +inf for rows that must stay, -inf for padding, shape (kv_heads, rows).
            budget: Of the layer, per head.
        """
        return [budget] * scores.shape[0]


def protected(scores: Tensor, rows: Rows, sinks: int, recent: int) -> Tensor:
    """Return scores with +inf for sinks and recent tokens and -inf for padding.

    Args:
        scores: Shape (batch, kv_heads, rows).
        rows: The rows scored.
        sinks: First tokens that stay.
        recent: Last tokens that stay.
    """
    positions = rows.positions
    lengths = rows.lengths.to(positions.device)[:, None, None]
    stays = (positions < sinks) | (positions >= lengths - recent)
    scores = scores.masked_fill(stays, float("inf"))
    return scores.masked_fill(positions < 0, float("-inf"))


def best_rows(scores: Tensor, count: int) -> Tensor:
    """Return the best rows in the order of the text; ties keep the earlier row.

    Args:
        scores: Shape (batch, kv_heads, rows).
        count: Rows to keep, at most as many as there are.
    Returns:
        Shape (batch, kv_heads, count), int64, increasing.
    """
    order = torch.sort(scores, dim=-1, descending=True, stable=True).indices
    return order[..., :count].sort(dim=-1).values


def window_mass(rows: Rows, window: int) -> Tensor:
    """Return the attention of the last queries, summed over them, mean over grouped heads.

    Each query sees the keys up to its own position.

    Args:
        rows: With queries.
        window: How many of the last queries count.
    Returns:
        Shape (batch, kv_heads, rows), float32.
    """
    assert rows.queries is not None
    queries = rows.queries[:, :, -window:]
    batch, num_heads, window, _ = queries.shape
    kv_heads = rows.keys.shape[1]
    logits = attention_logits(queries, rows.keys, rows.scaling, rows.softcap)
    logits = logits.view(batch, kv_heads, num_heads // kv_heads, window, -1)
    ages = torch.arange(window - 1, -1, -1, device=queries.device)
    own = rows.lengths.to(queries.device)[:, None] - 1 - ages  # (batch, window)
    positions = rows.positions[:, :, None, None]
    # Rows stand in the order of the text: only the last ones can lie after a query of the window.
    later = positions[..., -window:] > own[:, None, None, :, None]
    lowest = torch.finfo(logits.dtype).min  # finite, for queries before the text see nothing
    logits[..., -window:].masked_fill_(later, lowest)
    if bool((rows.positions[..., 0] < 0).any()):
        logits.masked_fill_(positions < 0, lowest)
    parts = logits.sub_(logits.amax(-1, keepdim=True)).exp_()
    exists = (own >= 0)[:, None, None]
    weights = exists / (parts.sum(-1) * parts.shape[2])
    return torch.matmul(weights.flatten(2)[:, :, None], parts.flatten(2, 3))[:, :, 0]
