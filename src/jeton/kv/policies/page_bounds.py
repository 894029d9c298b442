"""Page bounds: attend to the pages whose keys could score highest, by bounds of each page.

Source: Tang et al. 2024 (Quest), https://arxiv.org/abs/2406.10774, equation 1
Differs from the source: heads of a group add up their bounds and share their pages; the page of
the window is attended in full; all layers select.
Cost: two vectors per page and head are read instead of all keys; all keys stay.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jeton.errors import ConfigError
from jeton.kv.contract import Choice, Rows, Selection
from jeton.kv.select import SelectPolicy, top_columns


@dataclass(frozen=True, slots=True)
class PageBounds(SelectPolicy):
    """The pages with the highest upper bounds.

    Attributes:
        page: Tokens per page.
    """

    sinks: int = 4
    recent: int = 32
    page: int = 16

    def __post_init__(self) -> None:
        SelectPolicy.__post_init__(self)
        if self.page < 1:
            raise ConfigError(f"PageBounds needs a page >= 1, got {self.page}")
        if self._num_pages <= self._sink_pages:
            least = self.recent + self.page * (self._sink_pages + 2)
            raise ConfigError(
                f"PageBounds has a budget of {self.budget} tokens; sinks, window and the page "
                "that the window begins in leave no page to choose",
                hint=f"take a budget of at least {least}",
            )

    @property
    def _sink_pages(self) -> int:
        return -(-self.sinks // self.page)

    @property
    def _num_pages(self) -> int:
        return (self.budget - self.recent - self.page + 1) // self.page

    def choose(self, state: Any, query: Tensor, rows: Rows) -> Choice:
        """Rank the pages before the window by the bound of their logits.

        Args:
            state: None.
            query: Shape (heads, head_dim).
            rows: The committed rows of one text.
        """
        num_full = (int(rows.lengths[0]) - self.recent) // self.page
        if num_full <= self._num_pages:
            return Choice(None, None, False)
        low, high = self._bounds(rows, num_full)
        kv_heads, _, head_dim = low.shape
        grouped = query.view(kv_heads, -1, head_dim)
        above, below = grouped.clamp_min(0).sum(1), grouped.clamp_max(0).sum(1)
        bounds = torch.matmul(high, above[..., None]) + torch.matmul(low, below[..., None])
        pages = top_columns(bounds[..., 0].float(), self._sink_pages, self._num_pages)
        inside = torch.arange(self.page, device=pages.device)
        columns = (pages[..., None] * self.page + inside).flatten(1)
        return Choice(Selection(columns, num_full * self.page), None, False)

    def _bounds(self, rows: Rows, num_pages: int) -> tuple[Tensor, Tensor]:
        """Return the least and greatest keys of each page, shape (kv_heads, pages, head_dim)."""
        known: tuple[Tensor, Tensor, int] | None = rows.memo.get("bounds")
        done = known[2] if known else 0
        if done < num_pages:
            _, kv_heads, _, head_dim = rows.keys.shape
            new = rows.keys[0, :, done * self.page : num_pages * self.page]
            new = new.reshape(kv_heads, num_pages - done, self.page, head_dim)
            if known is None or known[0].shape[1] < num_pages:
                room = new.new_empty(2, kv_heads, 2 * num_pages, head_dim)
                if known is not None:
                    room[0, :, :done], room[1, :, :done] = known[0][:, :done], known[1][:, :done]
                low, high = room[0], room[1]
            else:
                low, high = known[0], known[1]
            low[:, done:num_pages] = new.amin(2)
            high[:, done:num_pages] = new.amax(2)
            rows.memo["bounds"] = (low, high, num_pages)
        low, high, _ = rows.memo["bounds"]
        return low[:, :num_pages], high[:, :num_pages]
