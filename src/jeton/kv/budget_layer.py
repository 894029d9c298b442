"""The layer of evicting policies: a budget of rows per head, in memory of that size."""

from typing import Any

import torch
from torch import Tensor

from jeton.kv.contract import Rows
from jeton.kv.evict import EvictPolicy, best_rows, protected
from jeton.kv.layer import TAG, Native, PolicyLayer, as_native, attention_of_one
from jeton.kv.mass import attention_logits, causal_mass
from jeton.kv.store import Store
from jeton.kv.window import QueryWindow


class BudgetLayer(PolicyLayer):
    """Keeps every token of the prompt while it is read, then `budget` + `stride` rows per head."""

    def __init__(self, policy: EvictPolicy, index: int, budget: int, native_name: str) -> None:
        super().__init__(index)
        self.policy, self.budget, self.native_name = policy, budget, native_name
        self._needs_mass = "mass" in policy.needs
        self._reset_rows()

    def _reset_rows(self) -> None:
        self.stores: list[Store] = []
        self.is_evicted = False
        self.num_evictions = 0
        self.window = QueryWindow(self.policy.window)
        self._new_queries: Tensor | None = None
        self._new_mass: list[Tensor] = []
        self._noise: Tensor | None = None
        self._scaling, self._softcap = 1.0, None
        self._group = 1

    @property
    def num_bytes(self) -> int:
        """Bytes of allocated keys and values."""
        return sum(store.num_bytes for store in self.stores)

    @property
    def kept(self) -> float:
        """Rows in use per head, the mean over the heads."""
        sizes = [store.keys.shape[0] * store.keys.shape[1] for store in self.stores]
        rows = [size * store.used for size, store in zip(sizes, self.stores, strict=True)]
        return sum(rows) / max(sum(sizes), 1)

    @property
    def room(self) -> int:
        """Tokens that may be committed before the next eviction."""
        if not self.stores:
            return self.budget + self.policy.stride
        if self.in_prompt and any(store.used > store.budget for store in self.stores):
            return self.policy.stride
        return min(store.budget + self.policy.stride - store.used for store in self.stores)

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
        if not self.stores:
            store = Store(key_states, value_states, self.budget, self._needs_mass)
            self.stores = [store]
        for store in self.stores:
            part = (store.texts, store.heads)
            store.append(key_states[part], value_states[part])
        keys, values = key_states.view_as(key_states), value_states
        if len(self.stores) == 1:
            used = self.stores[0].used
            keys, values = self.stores[0].keys[:, :, :used], self.stores[0].values[:, :, :used]
        setattr(keys, TAG, self)
        return keys, values

    def attend(
        self, module: Any, query: Tensor, mask: Tensor | None, native: Native, options: Any
    ) -> tuple[Tensor, Any]:
        """Return the attention of the new tokens over the rows, and note what they attend to."""
        self.attended += 1
        if self.in_prompt and not self.is_evicted:
            self.find_pads(mask)
        self._scaling = options.get("scaling") or query.shape[-1] ** -0.5
        self._softcap = options.get("softcap")
        self._new_queries, self._new_mass = self._worth_keeping(query), []
        self._group = query.shape[1] // max(store.heads.stop for store in self.stores)
        self._place()
        if not self.is_evicted and mask is not None:
            masks: list[Tensor | None] = [mask] * len(self.stores)
        else:
            masks = [self._mask(store, query) for store in self.stores]
        if len(self.stores) == 1:
            keys, values = self._used(self.stores[0])
            if self.is_evicted and self.num_new == 1:
                output = attention_of_one(
                    self.native_name, native, module, query, keys, values, masks[0], options
                )
                self._observe(self.stores[0], query)
                return output, None
            result = native(module, query, keys, values, masks[0], **options)
            self._observe(self.stores[0], query)
            return result
        output = query.new_empty(query.shape[0], self.num_new, query.shape[1], self._value_dim)
        for store, own in zip(self.stores, masks, strict=True):
            keys, values = self._used(store)
            heads = self._query_heads(store)
            part = query[store.texts, heads]
            if self.num_new == 1:
                found = attention_of_one(
                    self.native_name, native, module, part, keys, values, own, options
                )
            else:
                found = native(module, part, keys, values, own, **options)[0]
            output[store.texts, :, heads] = found.view(*found.shape[:2], -1, self._value_dim)
            self._observe(store, part)
        return output, None

    def _worth_keeping(self, query: Tensor) -> Tensor | None:
        """Return the queries that may enter the window; a copy, lest a prompt's all stay."""
        if not self.window.size:
            return None
        is_long = self.in_prompt and self.num_new > self.window.size
        return query[:, :, -self.window.size :].clone() if is_long else query

    @property
    def _value_dim(self) -> int:
        return int(self.stores[0].values.shape[-1])

    def _used(self, store: Store) -> tuple[Tensor, Tensor]:
        return store.keys[:, :, : store.used], store.values[:, :, : store.used]

    def _query_heads(self, store: Store) -> slice:
        return slice(store.heads.start * self._group, store.heads.stop * self._group)

    def _place(self) -> None:
        """Write the positions of the new rows."""
        if self.num_new == 1 and not self.pads:
            for store in self.stores:
                store.positions[:, :, store.used - 1] = self.seen - 1
            return
        device = self.stores[0].positions.device
        depths = torch.tensor(self.depths(), device=device)
        places = depths + (self.seen - self.num_new)
        if self.pads:
            places = places - torch.tensor(self.pads, device=device)[:, None, None]
        for store in self.stores:
            own = places[store.texts] if self.pads else places
            store.positions[:, :, store.used - self.num_new : store.used] = own

    def _mask(self, store: Store, query: Tensor) -> Tensor | None:
        """Return which rows the new tokens see, or None where a native call needs no mask."""
        if self.num_new == 1 and not self.pads:
            return None
        if not self.is_evicted and not self.pads and store.used == self.num_new:
            return None  # causal
        seen = self._sees(store)
        seen = seen.repeat_interleave(self._group, dim=1)
        return as_native(seen, self.native_name, query.dtype)

    def _sees(self, store: Store) -> Tensor:
        """Return which rows each new token sees, shape (batch, kv_heads, new, used)."""
        prefix = store.used - self.num_new
        valid = store.positions[:, :, None, : store.used] >= 0
        seen = valid.repeat(1, 1, self.num_new, 1)
        seen[..., prefix:] &= self.ancestors(seen.device)
        return seen

    def _observe(self, store: Store, query: Tensor) -> None:
        """Add what a prompt's tokens attend to; hold what provisional tokens attend to."""
        if not self._needs_mass:
            return
        keys = store.keys[:, :, : store.used]
        if not self.in_prompt:
            self._new_mass.append(self._node_mass(store, query, keys))
            return
        assert store.mass is not None
        pads = None
        if self.pads:
            pads = (store.positions[:, 0, : store.used] < 0).sum(-1).tolist()
        adjust = None
        noise = self._noise_for(store, query)
        if noise is not None:

            def adjust(text: int, head: int, logits: Tensor) -> Tensor:
                first = pads[text] if pads else 0
                places = store.positions[text, head, first : first + logits.shape[-1]]
                start = head * self._group
                own = noise[start : start + self._group].index_select(1, places)
                return (logits + own[:, None]) / self.policy.temperature(0)

        new = causal_mass(
            query,
            keys,
            scaling=self._scaling,
            softcap=self._softcap,
            pads=pads,
            decay=self.policy.decay,
            adjust=adjust,
        )
        mass = store.mass[:, :, : store.used]
        mass.mul_(self.policy.decay**self.num_new).add_(new)

    def _noise_for(self, store: Store, query: Tensor) -> Tensor | None:
        """Return the policy's noise of a store's heads, for all positions so far."""
        if self._noise is None or self._noise.shape[1] < self.seen:
            heads = max(s.heads.stop for s in self.stores) * self._group
            self._noise = self.policy.noise(self.index, heads, 2 * self.seen)
            if self._noise is None:
                return None
            self._noise = self._noise.to(query.device)
        return self._noise[self._query_heads(store)]

    def _node_mass(self, store: Store, query: Tensor, keys: Tensor) -> Tensor:
        """Return what each new token attends to, shape (batch, kv_heads, new, used)."""
        logits = attention_logits(query, keys, self._scaling, self._softcap)
        batch, _, new, used = logits.shape
        logits = logits.view(batch, store.kv_heads, -1, new, used)
        noise = self._noise_for(store, query)
        if noise is not None:
            own = noise.view(1, store.kv_heads, self._group, -1).expand(batch, -1, -1, -1)
            places = store.positions[:, :, None, :used].clamp_min(0)
            logits = logits + own.gather(3, places.expand(-1, -1, self._group, -1))[:, :, :, None]
        base = self.seen - self.num_new - self.prompt_end
        steps = [self.policy.temperature(base + depth + 1) for depth in self.depths()]
        if any(step != 1.0 for step in steps):
            logits = logits / torch.tensor(steps, device=logits.device)[:, None]
        if new > 1 or self.pads:
            logits = logits.masked_fill(~self._sees(store)[:, :, None], float("-inf"))
        return torch.softmax(logits, dim=-1).sum(2)

    def commit(self, nodes: list[int]) -> None:
        """Keep these of the new tokens; evict when a stride is full."""
        base_seen = self.seen - self.num_new
        for place, store in enumerate(self.stores):
            base = store.used - self.num_new
            if self._needs_mass and self._new_mass and nodes:
                self._add_mass(store, self._new_mass[place], base, nodes)
            store.move(base, nodes)
        self._remember(nodes)
        self.seen, self.num_new = base_seen + len(nodes), 0
        stride = self.policy.stride
        if any(store.used >= store.budget + stride for store in self.stores):
            self._evict()

    def _add_mass(self, store: Store, new: Tensor, base: int, nodes: list[int]) -> None:
        """Add the attention of a committed path, the older tokens' decayed."""
        assert store.mass is not None
        decay = self.policy.decay
        if nodes == list(range(new.shape[2])):
            rows = new
        else:
            picked = [*range(base), *(base + node for node in nodes)]
            index = torch.tensor(picked, device=new.device)
            rows = new[:, :, nodes].index_select(3, index)
        ages = torch.arange(len(nodes) - 1, -1, -1, device=new.device)
        weights = torch.full((), decay, device=new.device) ** ages
        mass = store.mass[:, :, : base + len(nodes)]
        mass[:, :, base:] = 0.0
        mass.mul_(decay ** len(nodes)).add_((rows * weights[:, None]).sum(2))

    def _remember(self, nodes: list[int] | None) -> None:
        """Take the queries of final tokens into the window."""
        if self._new_queries is not None:
            new = self._new_queries
            all_stay = nodes is None or nodes == list(range(new.shape[2]))
            self.window.add(new if all_stay else new[:, :, nodes])
        self._new_queries = None

    def settle(self) -> None:
        """Make the tokens of the last forward final."""
        if self.in_prompt:
            self._remember(None)
        super().settle()

    def begin(self) -> None:
        """A runner verifies a tree: a prompt is over and is cut to the budget."""
        if self.in_prompt:
            self._remember(None)
            self.num_new = 0
        super().begin()

    def end_prompt(self) -> None:
        """Decoding begins: cut the prompt to the budget."""
        super().end_prompt()
        if any(store.used > store.budget for store in self.stores):
            self._evict()

    def _evict(self) -> None:
        """Cut every head to its budget."""
        parts: list[Store] = []
        for store in self.stores:
            rows = self._rows(store)
            scores = protected(
                self.policy.score(rows).float(), rows, self.policy.sinks, self.policy.recent
            )
            if not self.policy.divides_heads or store.kv_heads == 1:
                store.shrink(best_rows(scores, store.budget), store.budget + self.policy.stride)
                parts.append(store)
                continue
            for text in range(scores.shape[0]):
                budgets = self.policy.head_budgets(scores[text], store.budget)
                for head, budget in enumerate(budgets):
                    part = store.part(text, head, budget)
                    kept = best_rows(scores[text : text + 1, head : head + 1], budget)
                    part.shrink(kept, budget + self.policy.stride)
                    parts.append(part)
        self.stores, self.is_evicted = parts, True
        self.num_evictions += 1

    def _rows(self, store: Store) -> Rows:
        used = slice(0, store.used)
        queries = self.window.last()
        if queries is not None:
            queries = queries[store.texts, self._query_heads(store)]
        return Rows(
            keys=store.keys[:, :, used],
            values=store.values[:, :, used],
            positions=store.positions[:, :, used],
            lengths=self._lengths(store),
            mass=None if store.mass is None else store.mass[:, :, used],
            queries=queries,
            scaling=self._scaling,
            softcap=self._softcap,
            layer=self.index,
        )

    def _lengths(self, store: Store) -> Tensor:
        """Return the tokens of each text, shape (batch,)."""
        pads = self.pads or [0] * store.texts.stop
        return self.seen - torch.tensor(pads[store.texts], device=store.keys.device)

    def fork(self) -> "BudgetLayer":
        """Return an independent copy of the committed rows."""
        other = BudgetLayer(self.policy, self.index, self.budget, self.native_name)
        other.__dict__.update(self.__dict__)
        provisional = 0 if self.in_prompt else self.num_new
        other.stores = [store.fork(store.used - provisional) for store in self.stores]
        other.seen, other.num_new = self.seen - provisional, 0
        if not self.in_prompt:
            other._new_queries = None
        other._new_mass, other.window = [], self.window.fork()
        other.is_decoding = False
        return other
