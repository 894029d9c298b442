"""TokenSelect: all heads vote which tokens are attended; similar queries reuse the vote.

Source: Wu et al. 2024, https://arxiv.org/abs/2411.02886, equation 5 and Algorithm 1
Differs from the source: a reused choice also keeps the tokens since then (at most twice the local
window); chunks of a prompt begin at multiples of `prompt_chunk`.
Cost: one product of the query with all keys, except where a choice is reused; all keys stay.
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
class TokenSelect(SelectPolicy):
    """Soft votes of the heads over the tokens between sinks and window.

    Attributes:
        sinks: -1 takes 128, or an eighth of a budget below 1024.
        recent: 0 takes 512, or a quarter of a budget below 2048.
        similarity: Cosine of the query to that of the last choice from which on it is reused.
        prompt_chunk: Prompt tokens that choose together; 0 reads prompts densely.
    """

    budget: int = 2688
    sinks: int = -1
    recent: int = 0
    similarity: float = 0.9
    prompt_chunk: int = 512

    def __post_init__(self) -> None:
        if self.sinks == -1:
            object.__setattr__(self, "sinks", min(128, max(self.budget, 0) // 8))
        if self.recent == 0:
            object.__setattr__(self, "recent", max(min(512, self.budget // 4), 1))
        SelectPolicy.__post_init__(self)
        check_top(self, 1)
        if not -1.0 <= self.similarity <= 1.0 or self.prompt_chunk < 0:
            raise ConfigError(
                "TokenSelect needs a similarity in [-1, 1] and prompt_chunk >= 0, got "
                f"{self.similarity} and {self.prompt_chunk}"
            )

    @property
    def chunk(self) -> int:
        """Tokens of a prompt that choose together."""
        return self.prompt_chunk

    def choose(self, state: Any, query: Tensor, rows: Rows) -> Choice:
        """Vote, or reuse the last vote.

        Args:
            state: The last vote and its query.
            query: Shape (heads, head_dim).
            rows: The committed rows of one text.
        """
        length = int(rows.lengths[0])
        if state is not None:
            selection, voted = state
            similar = functional.cosine_similarity(query.flatten().float(), voted, dim=0)
            if similar >= self.similarity and length - selection.since <= 2 * self.recent:
                return Choice(selection, state, False)
        selection = self._vote(query, rows, length - self.recent)
        return Choice(selection, (selection, query.flatten().float()), True)

    def choose_block(self, query: Tensor, rows: Rows) -> Selection:
        """Vote with the mean query of a block.

        Args:
            query: Shape (heads, head_dim).
            rows: The rows before the block.
        """
        return self._vote(query, rows, max(rows.keys.shape[2] - self.recent, 0))

    def _vote(self, query: Tensor, rows: Rows, since: int) -> Selection:
        """Return the sinks and the tokens with the most votes, the same for all heads."""
        kv_heads = rows.keys.shape[1]
        sinks = min(self.sinks, since)
        keys = rows.keys[:, :, sinks:since]
        logits = attention_logits(query[None, :, None], keys, rows.scaling, rows.softcap)
        votes = torch.softmax(logits, dim=-1).sum(1)[0]  # (1, candidates), eq. 5
        count = min(self.budget - self.recent, since)
        chosen = top_columns(functional.pad(votes, (sinks, 0)), sinks, count)
        return Selection(chosen.expand(kv_heads, -1), since)
