"""What selecting policies share: all keys stay, each token attends to some of them."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from jeton.errors import ConfigError
from jeton.kv.contract import SELECT, CachePolicy, Choice, Rows, Selection


@dataclass(frozen=True, slots=True)
class SelectPolicy(CachePolicy):
    """Chooses per token what is attended; nothing is lost."""

    kind: ClassVar[str] = SELECT

    @property
    def chunk(self) -> int:
        """Tokens of a prompt that choose together; 0 reads prompts densely."""
        return 0

    @abstractmethod
    def choose(self, state: Any, query: Tensor, rows: Rows) -> Choice:
        """Decide what one token attends to.

        The choice may only depend on the arguments, and on committed rows below
        `rows.lengths[0] - recent`: then it is the same inside and outside of a draft.

        Args:
            state: Of the token before, None at first.
            query: Shape (heads, head_dim).
            rows: The committed rows of one text, padding left out; `lengths` counts the token.
        """

    def choose_block(self, query: Tensor, rows: Rows) -> Selection | None:
        """Decide what a block of prompt tokens attends to; asked when `chunk` is not 0.

        Optional: without it blocks attend to everything.

        Args:
            query: The mean query of the block, shape (heads, head_dim).
            rows: The rows before the block.
        Returns:
            What the block attends to besides itself; None for everything.
        """
        return None


def top_columns(scores: Tensor, sinks: int, count: int) -> Tensor:
    """Return the sinks and the best other columns, in order.

    Args:
        scores: Shape (kv_heads, columns).
        sinks: First columns that are always chosen.
        count: Columns chosen in all, sinks included; at most as many as there are.
    Returns:
        Shape (kv_heads, count), int64, increasing.
    Example:
        >>> top_columns(torch.tensor([[0.0, 3.0, 1.0, 2.0]]), 1, 3).tolist()
        [[0, 1, 3]]
    """
    kept = min(sinks, count)
    best = scores[:, kept:].topk(count - kept, dim=-1).indices + kept
    first = torch.arange(kept, device=scores.device).expand(scores.shape[0], -1)
    return torch.cat([first, best.sort(dim=-1).values], dim=-1)


def check_top(policy: SelectPolicy, least: int) -> None:
    """Refuse a budget that leaves nothing to choose.

    Raises:
        ConfigError: fewer than `least` tokens remain for the choice.
    """
    if policy.budget - policy.sinks - policy.recent < least:
        raise ConfigError(
            f"{type(policy).__name__} has a budget of {policy.budget} tokens; {policy.sinks} "
            f"sinks and {policy.recent} recent ones leave fewer than {least} to choose",
            hint=f"take a budget of at least {policy.sinks + policy.recent + least}",
        )
