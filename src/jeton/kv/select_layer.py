"""The layer of selecting policies: all rows stay, each token attends to those chosen for it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from jeton.kv.contract import Choice, Rows, Selection
from jeton.kv.layer import TAG, Native, PolicyLayer, as_native, attention_of_one
from jeton.kv.select import SelectPolicy
from jeton.kv.store import Store

_TAIL = 64  # rows of later tokens that a gathered selection has room for at first


@dataclass
class Gathered:
    """The rows of a selection side by side, and behind them those of the tokens since.

    Attributes:
        selection: Whose rows.
        keys: Shape (1, kv_heads, capacity, head_dim).
        values: Shape (1, kv_heads, capacity, value_head_dim).
        until: The row of the text up to which committed rows stand here.
    """

    selection: Selection
    keys: Tensor
    values: Tensor
    until: int


class SelectLayer(PolicyLayer):
    """Holds every token; each new token attends to its own choice of them."""

    def __init__(self, policy: SelectPolicy, index: int, budget: int, native_name: str) -> None:
        super().__init__(index)
        self.policy, self.budget, self.native_name = policy, budget, native_name
        self._reset_rows()

    def _reset_rows(self) -> None:
        self.store: Store | None = None
        self.num_steps = self.num_full = self.num_read = 0
        self._states: dict[int, Any] = {}
        self._node_states: dict[int, list[Any]] = {}
        self._gathered: dict[int, Gathered] = {}
        self._memos: dict[int, dict[str, Any]] = {}

    @property
    def num_bytes(self) -> int:
        """Bytes of allocated keys and values."""
        return self.store.num_bytes if self.store else 0

    @property
    def kept(self) -> float:
        """Rows in use per head."""
        return float(self.store.used if self.store else 0)

    @property
    def room(self) -> int:
        """Tokens that may stand in one path of a draft: the window must cover them."""
        return self.policy.recent

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write new rows; the keys returned carry the mark by which `attend` is found.

        Args:
            key_states: Shape (batch, kv_heads, seq, head_dim).
            value_states: Shape (batch, kv_heads, seq, value_head_dim).
            args: What some models pass along; not used.
            kwargs: What some models pass along; not used.
        """
        self.arrive(key_states)
        if self.store is None:
            self.store = Store(key_states, value_states, self.budget, has_mass=False)
        self.store.append(key_states, value_states)
        used = self.store.used
        keys, values = self.store.keys[:, :, :used], self.store.values[:, :, :used]
        setattr(keys, TAG, self)
        return keys, values

    def attend(
        self, module: Any, query: Tensor, mask: Tensor | None, native: Native, options: Any
    ) -> tuple[Tensor, Any]:
        """Return the attention of the new tokens, each over what the policy chose for it."""
        assert self.store is not None
        self.attended += 1
        if self.in_prompt:
            self.find_pads(mask)
        batch, used = query.shape[0], self.store.used
        longest = used - min(self.pads or [0])
        if longest <= self.budget or (self.in_prompt and not self.policy.chunk):
            if mask is None and 1 < self.num_new < used:
                mask = torch.ones(self.num_new, used, dtype=torch.bool, device=query.device)
                mask[:, used - self.num_new :] = self.ancestors(query.device)
                mask = as_native(mask[None, None], self.native_name, query.dtype)
            self._node_states = {}
            keys, values = self.store.keys[:, :, :used], self.store.values[:, :, :used]
            return native(module, query, keys, values, mask, **options)
        step = self._prompt if self.in_prompt else self._decode
        value_dim = self.store.values.shape[-1]
        output = query.new_zeros(batch, self.num_new, query.shape[1], value_dim)
        for text in range(batch):
            step(text, module, query[text : text + 1], native, options, output[text : text + 1])
        return output, None

    def _pad(self, text: int) -> int:
        return self.pads[text] if self.pads else 0

    def _rows(self, text: int, end: int, length: int, options: Any) -> Rows:
        """Return what the policy sees of one text: its rows up to `end`, padding left out."""
        assert self.store is not None
        part = (slice(text, text + 1), slice(None), slice(self._pad(text), end))
        keys = self.store.keys[part]
        return Rows(
            keys=keys,
            values=self.store.values[part],
            positions=torch.arange(keys.shape[2]).expand(1, keys.shape[1], -1),
            lengths=torch.tensor([length]),
            scaling=options.get("scaling") or keys.shape[-1] ** -0.5,
            softcap=options.get("softcap"),
            layer=self.index,
            memo=self._memos.setdefault(text, {}),
        )

    def _decode(
        self, text: int, module: Any, query: Tensor, native: Native, options: Any, output: Tensor
    ) -> None:
        """Attend with each new token of a text to its own choice."""
        assert self.store is not None
        base = self.store.used - self.num_new
        states: list[Any] = []
        for node, depth in enumerate(self.depths()):
            path = self.path_to(node)
            before = states[path[-2]] if depth else self._states.get(text)
            length = base - self._pad(text) + depth + 1
            choice = Choice(None, None, False)
            if length > self.budget:
                rows = self._rows(text, base, length, options)
                choice = self.policy.choose(before, query[0, :, node], rows)
                self.num_steps += 1
                self.num_full += choice.is_full
            keys, values, mask = self._visible(text, choice.selection, base, path)
            self.num_read += keys.shape[2]
            mask = as_native(mask, self.native_name, query.dtype)
            own = query[:, :, node : node + 1]
            output[:, node : node + 1] = attention_of_one(
                self.native_name, native, module, own, keys, values, mask, options
            )
            states.append(choice.state)
        self._node_states[text] = states

    def _visible(
        self, text: int, selection: Selection | None, base: int, path: list[int]
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return keys and values that one new token attends to, and a mask where one is needed."""
        assert self.store is not None
        if selection is not None:
            return (*self._select(text, selection, base, path), None)
        part = (slice(text, text + 1), slice(None), slice(self._pad(text), self.store.used))
        keys, values = self.store.keys[part], self.store.values[part]
        if self.num_new == 1:
            return keys, values, None
        mask = torch.ones(1, 1, 1, keys.shape[2], dtype=torch.bool, device=keys.device)
        mask[..., keys.shape[2] - self.num_new :] = False
        mask[..., [base - self._pad(text) + node for node in path]] = True
        return keys, values, mask

    def _select(
        self, text: int, selection: Selection, base: int, path: list[int]
    ) -> tuple[Tensor, Tensor]:
        """Return the rows of a selection, those of committed tokens since, and those of a path."""
        assert self.store is not None
        pad, store = self._pad(text), self.store
        chosen = selection.columns.shape[1]
        end = chosen + base - pad - selection.since
        held = self._gathered.get(text)
        if held is None or held.selection is not selection:
            held = self._gather(text, selection, base)
        elif held.until < base:
            place = chosen + held.until - pad - selection.since
            self._widen(held, end + len(path))
            held.keys[:, :, place:end] = store.keys[text, :, held.until : base]
            held.values[:, :, place:end] = store.values[text, :, held.until : base]
            held.until = base
        self._widen(held, end + len(path))
        rows = slice(base, base + 1) if len(path) == 1 and not path[0] else [base + n for n in path]
        held.keys[0, :, end : end + len(path)] = store.keys[text, :, rows]
        held.values[0, :, end : end + len(path)] = store.values[text, :, rows]
        return held.keys[:, :, : end + len(path)], held.values[:, :, : end + len(path)]

    def _gather(self, text: int, selection: Selection, base: int) -> Gathered:
        """Copy the rows of a selection and of the committed tokens since side by side."""
        assert self.store is not None
        pad, store = self._pad(text), self.store
        kv_heads = store.kv_heads
        device = store.keys.device
        since = torch.arange(selection.since, base - pad, device=device).expand(kv_heads, -1)
        columns = torch.cat([selection.columns, since], dim=1) + pad
        heads = torch.arange(kv_heads, device=device) + text * kv_heads
        index = (columns + heads[:, None] * store.capacity).flatten()
        size = columns.shape[1]
        parts = []
        for rows in (store.keys, store.values):
            part = rows.new_empty(1, kv_heads, size + _TAIL, rows.shape[-1])
            found = rows.view(-1, rows.shape[-1]).index_select(0, index)
            part[0, :, :size] = found.view(kv_heads, size, -1)
            parts.append(part)
        self._gathered[text] = Gathered(selection, parts[0], parts[1], base)
        return self._gathered[text]

    def _widen(self, held: Gathered, needed: int) -> None:
        """Make room for more rows of later tokens."""
        if needed <= held.keys.shape[2]:
            return
        for name in ("keys", "values"):
            old = getattr(held, name)
            new = old.new_empty((*old.shape[:2], needed + _TAIL, old.shape[3]))
            new[:, :, : old.shape[2]] = old
            setattr(held, name, new)

    def _prompt(
        self, text: int, module: Any, query: Tensor, native: Native, options: Any, output: Tensor
    ) -> None:
        """Attend with blocks of prompt tokens to what their mean query chose."""
        assert self.store is not None
        pad, chunk = self._pad(text), self.policy.chunk
        first = self.store.used - self.num_new  # row of the first new token
        start = max(first, pad)
        while start < self.store.used:
            end = min(pad + ((start - pad) // chunk + 1) * chunk, self.store.used)
            part = query[:, :, start - first : end - first]
            held = (slice(text, text + 1), slice(None), slice(pad, end))
            keys, values = self.store.keys[held], self.store.values[held]
            selection = None
            if end - pad > self.budget and start > pad:
                rows = self._rows(text, start, start - pad, options)
                selection = self.policy.choose_block(part[0].mean(1), rows)
            if selection is not None:
                columns = selection.columns[None, :, :, None]
                since = selection.since
                keys, values = (
                    torch.cat(
                        [
                            rows.gather(2, columns.expand(-1, -1, -1, rows.shape[-1])),
                            rows[:, :, since:],
                        ],
                        dim=2,
                    )
                    for rows in (keys, values)
                )
            mask = torch.ones(1, 1, end - start, keys.shape[2], dtype=torch.bool)
            mask = mask.tril(keys.shape[2] - (end - start)).to(query.device)
            own = as_native(mask, self.native_name, query.dtype)
            found = native(module, part, keys, values, own, **options)[0]
            place = output[:, start - first : end - first]
            place.copy_(found.view(place.shape))
            start = end

    def end_prompt(self) -> None:
        """Decoding begins, with nothing chosen yet."""
        super().end_prompt()
        self._states, self._gathered = {}, {}

    def commit(self, nodes: list[int]) -> None:
        """Keep these of the new tokens, and what the last of them chose."""
        if self.store is not None:
            self.store.move(self.store.used - self.num_new, nodes)
        if nodes:
            self._states = {text: held[nodes[-1]] for text, held in self._node_states.items()}
        self.seen += len(nodes) - self.num_new
        self.num_new = 0

    def fork(self) -> "SelectLayer":
        """Return an independent copy of the committed rows."""
        other = SelectLayer(self.policy, self.index, self.budget, self.native_name)
        other.__dict__.update(self.__dict__)
        provisional = 0 if self.in_prompt else self.num_new
        if self.store is not None:
            other.store = self.store.fork(self.store.used - provisional)
        other.seen, other.num_new, other.is_decoding = self.seen - provisional, 0, False
        other._states = dict(self._states)
        other._node_states, other._gathered, other._memos = {}, {}, {}
        return other
