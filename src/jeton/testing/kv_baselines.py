"""Two baselines for tables of cache policies: rows at random, and an oracle of the questions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from jeton.kv import tasks
from jeton.kv.contract import Rows
from jeton.kv.evict import EvictPolicy


@dataclass(frozen=True, slots=True)
class RandomRows(EvictPolicy):
    """Keeps rows at random, the same ones for all heads: the floor of every table.

    Attributes:
        seed: Of the draw.
    """

    seed: int = 0

    def score(self, rows: Rows) -> Tensor:
        """Return a random number for each position."""
        last = int(rows.positions.max()) + 1
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.rand(max(last, 1 << 16), generator=generator)
        return drawn.to(rows.positions.device)[rows.positions.clamp_min(0)]


@dataclass(frozen=True, slots=True)
class Oracle(EvictPolicy):
    """Keeps what the questions will attend to: what a policy could reach that knew them.

    Attributes:
        attention: Of `attention_of_questions`.
    """

    attention: tuple[Tensor, ...] = ()

    def score(self, rows: Rows) -> Tensor:
        """Return the attention of the future on each row, 0 for rows after the context."""
        worth = self.attention[rows.layer].to(rows.positions.device)
        known = rows.positions.clamp(0, worth.shape[-1] - 1)
        inside = (rows.positions >= 0) & (rows.positions < worth.shape[-1])
        return worth.gather(-1, known).where(inside, worth.new_zeros(()))


@torch.inference_mode()
def attention_of_questions(
    model: PreTrainedModel, contexts: Sequence[tasks.Context]
) -> tuple[Tensor, ...]:
    """Return how much the questions about contexts attend to each of their rows.

    The dense model reads each context, then every key once, then the mark and the marked key. A
    row is worth the most attention that any of these queries gives it: the sum would rank rows
    that all queries glance at above the only row that answers one of them.

    Args:
        model: Of `harness.chain_model`.
        contexts: All of one length and with as many pairs.
    Returns:
        For each layer, shape (contexts, kv_heads, length).
    """
    rows = []
    for context in contexts:
        asked = [tasks.FIRST_KEY + key for key, _ in context.pairs]
        asked += [tasks.MARK, tasks.FIRST_KEY + context.marked[0]]
        rows.append(np.concatenate([context.token_ids, asked]))
    length = len(contexts[0].token_ids)
    before = str(model.config._attn_implementation)
    model.set_attn_implementation("eager")
    try:
        ids = torch.from_numpy(np.stack(rows))
        found = model(input_ids=ids, output_attentions=True, use_cache=False).attentions
    finally:
        model.set_attn_implementation(before)
    kv_heads = model.config.num_key_value_heads
    return tuple(
        layer[:, :, length:, :length].amax(2).unflatten(1, (kv_heads, -1)).amax(2)
        for layer in found
    )
