"""Preallocated rows of some heads of one layer, of which any may be dropped."""

import torch
from torch import Tensor

from jeton.lm.cache import grown_capacity

_MOST_SPARE = 4096  # rows: a long prompt is cut after it, twice its size would be in vain


class Store:
    """Keys, values, positions and mass of some texts and of neighbouring heads.

    Rows stand in the order of the text; those of provisional tokens stand last.

    Attributes:
        texts: Which texts of the batch.
        heads: Which key-value heads.
        keys: Shape (batch, kv_heads, capacity, head_dim).
        values: Shape (batch, kv_heads, capacity, value_head_dim).
        positions: Shape (batch, kv_heads, capacity), int64; negative for padding.
        mass: Shape (batch, kv_heads, capacity), float32, or None.
        used: Rows in use, provisional ones included.
        budget: Rows that an eviction leaves.
    """

    def __init__(self, keys: Tensor, values: Tensor, budget: int, has_mass: bool):
        """Make an empty store for rows like these."""
        self.texts, self.heads = slice(0, keys.shape[0]), slice(0, keys.shape[1])
        self.budget, self.used = budget, 0
        self.keys, self.values = keys[:, :, :0], values[:, :, :0]
        self.positions = torch.empty(*keys.shape[:2], 0, dtype=torch.int64, device=keys.device)
        self.mass: Tensor | None = None
        if has_mass:
            self.mass = torch.zeros(*keys.shape[:2], 0, device=keys.device)

    @property
    def kv_heads(self) -> int:
        """Heads held here."""
        return int(self.keys.shape[1])

    @property
    def capacity(self) -> int:
        """Rows allocated."""
        return int(self.keys.shape[2])

    @property
    def num_bytes(self) -> int:
        """Bytes of allocated keys and values."""
        return self.keys.nbytes + self.values.nbytes

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Write new rows; their positions are the caller's to fill in."""
        end = self.used + keys.shape[2]
        if end > self.capacity:
            self._resize(grown_capacity(end, end + _MOST_SPARE))
        self.keys[:, :, self.used : end] = keys
        self.values[:, :, self.used : end] = values
        if self.mass is not None:
            self.mass[:, :, self.used : end] = 0.0
        self.used = end

    def _tensors(self) -> dict[str, Tensor]:
        named = {"keys": self.keys, "values": self.values, "positions": self.positions}
        return named if self.mass is None else {**named, "mass": self.mass}

    def _resize(self, capacity: int) -> None:
        """Move to rows of another capacity."""
        for name, old in self._tensors().items():
            new = old.new_empty((*old.shape[:2], capacity, *old.shape[3:]))
            new[:, :, : self.used] = old[:, :, : self.used]
            setattr(self, name, new)

    def move(self, base: int, nodes: list[int]) -> None:
        """Keep `base` rows, then the rows base + node of these nodes, in this order."""
        if nodes != list(range(len(nodes))):
            index = torch.tensor(nodes, device=self.keys.device) + base
            for tensor in (self.keys, self.values, self.positions):
                tensor[:, :, base : base + len(nodes)] = tensor.index_select(2, index)
        self.used = base + len(nodes)

    def shrink(self, index: Tensor, capacity: int) -> None:
        """Keep only some rows, in memory of the given capacity.

        Args:
            index: Increasing, shape (batch, kv_heads, kept).
            capacity: Rows to allocate; the memory is kept when it already has them.
        """
        batch, kv_heads, kept = index.shape
        held = self.capacity
        offsets = torch.arange(batch * kv_heads, device=index.device) * held
        flat = (index.reshape(batch * kv_heads, kept) + offsets[:, None]).flatten()
        for name, old in self._tensors().items():
            # A flat index_select is far faster than a gather along dimension 2.
            rows = old.reshape(batch * kv_heads * held, -1).index_select(0, flat)
            new = (
                old
                if held == capacity
                else old.new_empty((batch, kv_heads, capacity, *old.shape[3:]))
            )
            new[:, :, :kept] = rows.view(batch, kv_heads, kept, *old.shape[3:])
            setattr(self, name, new)
        self.used = kept

    def part(self, text: int | None, head: int, budget: int) -> "Store":
        """Return a view of one head of one text (or of all texts), with its own budget."""
        texts = self.texts if text is None else slice(text, text + 1)
        other = Store(self.keys[:1], self.values[:1], budget, False)
        for name, tensor in self._tensors().items():
            setattr(other, name, tensor[texts, head : head + 1])
        other.texts, other.heads, other.used = texts, slice(head, head + 1), self.used
        return other

    def fork(self, base: int) -> "Store":
        """Return an independent copy of the first `base` rows."""
        other = Store(self.keys, self.values, self.budget, self.mass is not None)
        other.texts, other.heads = self.texts, self.heads
        for name, tensor in self._tensors().items():
            setattr(other, name, tensor.clone())
        other.used = base
        return other
