"""Recycled Attention: a full step now and then; in between attend to what it attended to most.

Source: Xu et al. 2024, https://arxiv.org/abs/2411.05787, Algorithm 1 (re-derived from summaries)
Differs from the source: each group of heads has its own set, of the tokens outside of the window;
the full steps of the dynamic variant come on top of the periodic ones.
Cost: one full step per period; between them as much as an evicted cache; all keys stay.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from jeton.errors import ConfigError
from jeton.kv.contract import Choice, Rows, Selection
from jeton.kv.mass import attention_logits
from jeton.kv.select import SelectPolicy, check_top, top_columns


@dataclass(frozen=True, slots=True)
class RecycledAttention(SelectPolicy):
    """The top tokens of the last full step and all later ones.

    Attributes:
        period: Tokens from one full step to the next.
        similarity: A full step also comes when the cosine of the query to that of the last full
            step is lower (mean over the heads); -1 keeps to the period.
    """

    sinks: int = 4
    recent: int = 16
    period: int = 16
    similarity: float = -1.0

    def __post_init__(self) -> None:
        SelectPolicy.__post_init__(self)
        check_top(self, 1)
        if self.period < 1 or not -1.0 <= self.similarity <= 1.0:
            raise ConfigError(
                "RecycledAttention needs a period >= 1 and a similarity in [-1, 1], got "
                f"{self.period} and {self.similarity}"
            )

    def choose(self, state: Any, query: Tensor, rows: Rows) -> Choice:
        """Take a full step when it is due, else recycle the last one.

        Args:
            state: The set of the last full step, its place and its query.
            query: Shape (heads, head_dim).
            rows: The committed rows of one text.
        """
        length = int(rows.lengths[0])
        if state is not None:
            selection, place, last = state
            due = length - place >= self.period
            if not due and self.similarity > -1.0:
                near = functional.cosine_similarity(query.float(), last, dim=-1).mean()
                due = bool(near < self.similarity)
            if not due:
                return Choice(selection, state, False)
        since = length - self.recent
        kv_heads = rows.keys.shape[1]
        logits = attention_logits(
            query[None, :, None], rows.keys[:, :, :since], rows.scaling, rows.softcap
        )
        mass = torch.softmax(logits, dim=-1)[0].view(kv_heads, -1, since).sum(1)
        chosen = top_columns(mass, self.sinks, min(self.budget - self.recent, since))
        return Choice(None, (Selection(chosen, since), length, query.float()), True)
