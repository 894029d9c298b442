"""What the runner and the lean forward ask of a cache."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from transformers.cache_utils import Cache
from transformers.configuration_utils import PreTrainedConfig

from jeton.lm.tree import TokenTree


class DecoderCache(Protocol):
    """What the runner asks of a cache; a policy of the `kv` room brings its own.

    The runner counts tokens: slot = position for it, whatever rows the cache really keeps.

    Attributes:
        can_take_trees: Whether `mask` and `keep` know trees and not only chains.
        can_truncate: Whether `keep(length, [])` can go back to any earlier length.
        native: What the model takes as its cache.
    """

    can_take_trees: ClassVar[bool]
    can_truncate: ClassVar[bool]
    native: Cache

    @property
    def attention(self) -> str | None:
        """The name of the attention whose masks `mask` returns; None for the model's own."""
        ...

    @property
    def room(self) -> int | None:
        """Most tokens in a path of the next tree; None for any number."""
        ...

    def begin(self, num_new: int) -> None:
        """Prepare for a forward whose tokens may be dropped."""
        ...

    def keep(self, length: int, rows: Sequence[int]) -> bool:
        """Keep `length` tokens, then the tokens of these slots; False to forward them again."""
        ...

    def settle(self, length: int) -> None:
        """Learn that the first `length` tokens are final; called after a commit or a prefill."""
        ...

    def fork(self, length: int) -> "DecoderCache":
        """Return an independent copy of the first `length` tokens."""
        ...

    def reset(self) -> None:
        """Forget everything."""
        ...

    def mask(self, tree: TokenTree, *, additive: torch.dtype | None, device: torch.device) -> Any:
        """Return the `attention_mask` with which a forward over the tree's nodes is exact."""
        ...


class RowLayer(Protocol):
    """A layer of a cache into whose rows a forward writes straight."""

    def write(
        self, key_states: Tensor, value_states: Tensor, slots: Any, visible: int
    ) -> tuple[Tensor, Tensor]:
        """Write rows to slots; return the first `visible` rows, used or not."""
        ...

    def write_both(self, new: Tensor, slots: Any, visible: int) -> tuple[Tensor, Tensor]:
        """Write as `write` does, keys and values in one tensor of shape (2, batch, ...)."""
        ...


CacheFactory = Callable[[PreTrainedConfig, int], DecoderCache]
"""Makes an empty cache from (the decoder's configuration, max_length)."""
