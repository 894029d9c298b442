"""The state of a decoder between forwards. Only this file knows the cache of transformers.

Two kinds behind one interface. `SlotCache` holds keys and values in preallocated rows that grow by
doubling, so that a step costs no concatenation, and rows are moved in place when a branch of a
tree is kept; sliding-window layers keep all rows and show a window of them. `StockCache` wraps
the cache of transformers for recurrent, hybrid and other models: chains only, with snapshots.
"""

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import (
    Cache,
    DynamicCache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionCacheLayerMixin,
)
from transformers.configuration_utils import PreTrainedConfig

from jeton.lm.cache_contract import CacheFactory as CacheFactory  # who brings a cache looks here
from jeton.lm.cache_contract import DecoderCache as DecoderCache
from jeton.lm.tree import TokenTree

_PLAIN_LAYER_TYPES = {"full_attention", "sliding_attention"}
_FIRST_CAPACITY = 256  # rows; one doubling more or less is noise against a prefill


def grown_capacity(needed: int, most: int) -> int:
    """Return the rows to allocate when `needed` no longer fit: double, up to `most`.

    Example:
        >>> grown_capacity(3, 4096), grown_capacity(300, 4096), grown_capacity(5000, 4096)
        (256, 600, 5000)
    """
    return max(needed, min(max(2 * needed, _FIRST_CAPACITY), most))


class SlotLayer(DynamicLayer):
    """Keys and values of one layer in preallocated rows; row i holds the token of slot i.

    Committed tokens have slot = position. The nodes of a tree stand behind them.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, window: int | None, max_length: int) -> None:
        super().__init__()
        self._rows = torch.empty(0)  # keys and values where their shapes are the same
        self._shown: tuple[int, Tensor, Tensor] = (0, self._rows, self._rows)
        self.window = window
        self.is_sliding = window is not None
        self.used = 0
        self._max_length = max_length

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write new rows; return those that the new tokens can see.

        Args:
            key_states: Shape (batch, kv_heads, seq, head_dim).
            value_states: Shape (batch, kv_heads, seq, value_head_dim).
            args: What some models pass along; not used.
            kwargs: What some models pass along; not used.
        Returns:
            Keys and values, shape (batch, kv_heads, visible, head_dim), views of the rows.
        """
        start = self.used
        end = start + key_states.shape[-2]
        if not self.is_initialized or end > self.keys.shape[-2]:
            self._grow(key_states, value_states, end)
        self.keys[:, :, start:end] = key_states
        self.values[:, :, start:end] = value_states
        self.used = end
        first = self._first_visible(start)
        dtype = key_states.dtype  # rows that another forward wrote may be wider
        return self.keys[:, :, first:end].to(dtype), self.values[:, :, first:end].to(dtype)

    def write(
        self, key_states: Tensor, value_states: Tensor, slots: int, visible: int
    ) -> tuple[Tensor, Tensor]:
        """Write new rows from a slot on; return the first `visible` rows, used or not.

        Args:
            key_states: Shape (batch, kv_heads, seq, head_dim).
            value_states: Shape (batch, kv_heads, seq, value_head_dim).
            slots: The first slot.
            visible: Rows to return, at least slots + seq.
        Returns:
            Keys and values, shape (batch, kv_heads, visible, head_dim); unused rows are finite.
        """
        num_new = key_states.shape[2]
        if not self.is_initialized or visible > self.keys.shape[2]:
            self._grow(key_states, value_states, visible)
        self.keys.narrow(2, slots, num_new).copy_(key_states)
        self.values.narrow(2, slots, num_new).copy_(value_states)
        self.used = slots + num_new
        return self.keys.narrow(2, 0, visible), self.values.narrow(2, 0, visible)

    def write_both(self, new: Tensor, slots: int, visible: int) -> tuple[Tensor, Tensor]:
        """Write as `write` does, keys and values in one tensor.

        Args:
            new: Shape (2, batch, kv_heads, seq, head_dim).
            slots: The first slot.
            visible: Rows to return, at least slots + seq.
        """
        num_new = new.shape[3]
        if not self.is_initialized or visible > self.keys.shape[2]:
            self._grow(new[0], new[1], visible)
        self._rows.narrow(3, slots, num_new).copy_(new)
        self.used = slots + num_new
        if self._shown[0] != visible:
            shown = self._rows.narrow(3, 0, visible)
            self._shown = (visible, shown[0], shown[1])
        return self._shown[1], self._shown[2]

    def _first_visible(self, length: int) -> int:
        return 0 if self.window is None else max(length - self.window + 1, 0)

    def _grow(self, key_states: Tensor, value_states: Tensor, needed: int) -> None:
        """Move to rows of double capacity, up to `max_length` unless a tree needs more."""
        capacity = grown_capacity(needed, self._max_length)
        # Zeros, since rows that are masked out must still be finite.
        sizes = [(*part.shape[:2], capacity, part.shape[-1]) for part in (key_states, value_states)]
        if sizes[0] == sizes[1]:
            self._rows = key_states.new_zeros((2, *sizes[0]))
            new_keys, new_values = self._rows[0], self._rows[1]
        else:
            new_keys, new_values = key_states.new_zeros(sizes[0]), value_states.new_zeros(sizes[1])
        self._shown = (0, new_keys, new_values)
        if self.is_initialized:
            new_keys[:, :, : self.used] = self.keys[:, :, : self.used]
            new_values[:, :, : self.used] = self.values[:, :, : self.used]
        self.keys, self.values = new_keys, new_values
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def keep(self, length: int, rows: Sequence[int]) -> None:
        """Keep the first `length` rows and then these rows (all >= length), in this order."""
        moved = [row != length + place for place, row in enumerate(rows)]
        if any(moved):
            first = moved.index(True)  # rows before it already stand where they belong
            index = torch.tensor(rows[first:], device=self.keys.device)
            target = slice(length + first, length + len(rows))
            self.keys[:, :, target] = self.keys.index_select(2, index)
            self.values[:, :, target] = self.values.index_select(2, index)
        self.used = length + len(rows)

    def fork(self, length: int) -> "SlotLayer":
        """Return a copy with the first `length` rows."""
        other = SlotLayer(self.window, self._max_length)
        if self.is_initialized:
            other._grow(self.keys, self.values, max(length, 1))
            other.keys[:, :, :length] = self.keys[:, :, :length]
            other.values[:, :, :length] = self.values[:, :, :length]
            other.used = length
        return other

    def get_seq_length(self) -> int:
        """Return the number of rows in use."""
        return self.used

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return how many keys the next tokens see, and the slot of the first one."""
        first = self._first_visible(self.used)
        return self.used + query_length - first, first

    def crop(self, tokens_to_remove: int) -> None:
        """Drop the last rows; the argument is negative or 0, as everywhere in transformers."""
        self.used -= abs(tokens_to_remove)

    def reset(self) -> None:
        """Forget all rows; the memory stays."""
        self.used = 0


class SlotCache:
    """The cache of a decoder whose layers all are plain attention, full or sliding."""

    can_take_trees: ClassVar[bool] = True
    can_truncate: ClassVar[bool] = True
    attention: str | None = None
    room: int | None = None

    def __init__(self, config: PreTrainedConfig, windows: list[int | None], max_length: int):
        self._config = config
        self._layers = [SlotLayer(window, max_length) for window in windows]
        self.native = Cache(layers=list(self._layers))
        self._max_length = max_length
        self._windows = windows
        # A model of one layer type takes one mask; a mixed one takes a mask for each type.
        self._by_type: dict[str, int | None] | None = None
        if len(set(windows)) > 1:
            self._by_type = dict(zip(config.layer_types, windows, strict=True))

    @property
    def plain_layers(self) -> list[SlotLayer] | None:
        """The layers when all of them show every row, else None."""
        return self._layers if all(window is None for window in self._windows) else None

    def begin(self, num_new: int) -> None:
        """Prepare for a forward whose tokens may be dropped."""

    def keep(self, length: int, rows: Sequence[int]) -> bool:
        """Keep `length` tokens and then the tokens of these slots; always possible."""
        for layer in self._layers:
            layer.keep(length, rows)
        return True

    def settle(self, length: int) -> None:
        """Do nothing: every token keeps its row."""

    def fork(self, length: int) -> "SlotCache":
        """Return an independent copy of the first `length` tokens."""
        other = SlotCache(self._config, self._windows, self._max_length)
        other._layers = [layer.fork(length) for layer in self._layers]
        other.native = Cache(layers=list(other._layers))
        return other

    def reset(self) -> None:
        """Forget everything."""
        for layer in self._layers:
            layer.reset()

    def mask(self, tree: TokenTree, *, additive: torch.dtype | None, device: torch.device) -> Any:
        """Return the `attention_mask` with which a forward over the tree's nodes is exact.

        Args:
            tree: Its nodes take the next slots.
            additive: The dtype of a mask of 0 and lowest values (eager attention), None for bool.
            device: Where the mask is needed.
        Returns:
            None (no mask is needed), a tensor of shape (1, 1, nodes, visible), or a dict of them by
            layer type.
        """
        if len(tree) == 1:  # left to the model: its own choice keeps the bits of `generate`
            return None
        if self._by_type is None:
            return self._one_mask(tree, self._windows[0], additive, device)
        return {
            name: self._one_mask(tree, window, additive, device)
            for name, window in self._by_type.items()
        }

    def _one_mask(
        self,
        tree: TokenTree,
        window: int | None,
        additive: torch.dtype | None,
        device: torch.device,
    ) -> Tensor:
        allowed = visible_to_nodes(tree, self._layers[0].used, window)
        mask = torch.from_numpy(allowed)[None, None].to(device)
        if additive is None:
            return mask
        zero = torch.zeros((), dtype=additive, device=device)
        return torch.where(mask, zero, torch.finfo(additive).min)


def visible_to_nodes(tree: TokenTree, length: int, window: int | None) -> np.ndarray:
    """Return which keys each node of a tree attends to.

    Args:
        tree: Its nodes stand behind `length` committed tokens, at positions length + depth.
        length: Committed tokens, slot = position.
        window: Positions that a node sees, its own included; None for all. Keys that are out of
            every node's window have no column.
    Returns:
        Shape (nodes, visible + nodes), bool.
    """
    first = 0 if window is None else max(length - window + 1, 0)
    num_prefix = length - first
    allowed = np.ones((len(tree), num_prefix + len(tree)), dtype=bool)
    if tree.is_chain:
        allowed[:, num_prefix:] = np.tri(len(tree), dtype=bool)
    else:
        allowed[:, num_prefix:] = tree.ancestor_mask()
    if window is not None:  # by position, not by slot: siblings share a position
        depths = np.asarray(tree.depths)
        positions = np.concatenate([np.arange(first, length), length + depths])
        allowed &= positions[None, :] > (length + depths)[:, None] - window
    return allowed


class StockCache:
    """The cache of transformers with snapshots, for models with recurrent or unusual state."""

    can_take_trees: ClassVar[bool] = False
    can_truncate: ClassVar[bool] = False
    attention: str | None = None
    room: int | None = None

    def __init__(self, config: PreTrainedConfig) -> None:
        self._config = config
        self.native: Cache = DynamicCache(config=config)
        self._before: Cache | None = None
        self._num_new = 0

    def begin(self, num_new: int) -> None:
        """Take a snapshot to which `keep` can go back."""
        self._before = _snapshot(self.native)
        self._num_new = num_new

    def keep(self, length: int, rows: Sequence[int]) -> bool:
        """Keep all new tokens or none; False when the kept ones must be forwarded again."""
        if len(rows) == self._num_new:
            self._before = None
            return True
        if self._before is not None:
            self.native, self._before = self._before, None
        return not rows

    def settle(self, length: int) -> None:
        """Do nothing: every token keeps its row."""

    def fork(self, length: int) -> "StockCache":
        """Return an independent copy of the committed tokens."""
        other = StockCache(self._config)
        other.native = _snapshot(self.native if self._before is None else self._before)
        return other

    def reset(self) -> None:
        """Forget everything."""
        self.native = DynamicCache(config=self._config)
        self._before = None

    def mask(self, tree: TokenTree, *, additive: torch.dtype | None, device: torch.device) -> Any:
        """Return None: the model makes its own mask for a chain."""
        return None


def _snapshot(cache: Cache) -> Cache:
    """Return a cache that later forwards on the given one do not change."""
    layers = []
    for layer in cache.layers:
        twin = copy.copy(layer)  # attention layers replace their tensors, they never write in them
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            for name, value in vars(layer).items():
                if isinstance(value, dict):
                    setattr(twin, name, {key: _cloned(item) for key, item in value.items()})
        layers.append(twin)
    other = copy.copy(cache)
    other.layers = layers
    return other


def _cloned(item: Any) -> Any:
    return item.clone() if isinstance(item, Tensor) else item


def make_cache(config: PreTrainedConfig, max_length: int) -> SlotCache | StockCache:
    """Return an empty cache of the kind that the model's layers need.

    Args:
        config: Of the decoder (`get_text_config(decoder=True)` of the model's).
        max_length: Tokens after which the preallocation stops to double.
    """
    layers = DynamicCache(config=config).layers
    windows: list[int | None] = []
    for layer in layers:
        if type(layer) is DynamicSlidingWindowLayer:
            windows.append(layer.sliding_window)
        elif type(layer) is DynamicLayer:
            windows.append(None)
        else:
            return StockCache(config)
    layer_types = set(getattr(config, "layer_types", None) or ())
    hidden_window = "local" in (getattr(config, "attention_layers", None) or ())  # GPT-Neo: by slot
    uniform_or_typed = len(set(windows)) <= 1 or layer_types
    if not windows or layer_types - _PLAIN_LAYER_TYPES or hidden_window or not uniform_or_typed:
        return StockCache(config)
    if len(set(windows)) > 1 and not _one_window_per_type(config.layer_types, windows):
        return StockCache(config)
    return SlotCache(config, windows, max_length)


def _one_window_per_type(layer_types: Sequence[str], windows: Sequence[int | None]) -> bool:
    return len(set(zip(layer_types, windows, strict=True))) == len(set(layer_types))
