"""The lean forward in float32 with weights rearranged for it: a third fewer calls again.

What is folded into the copies of the weights that the plan holds:
- Query, key and value are one product, gate and up another, and the residual sum is part of the
  product before it.
- The norms' weights. A norm that is left without one is `_weight_norm`, a single operator, once
  the sum of squares also holds n eps; so the states have constant columns behind their own.
- The halves of each head are interleaved, so that rotation is one product of complex numbers.
- Heads stand by their number within the group, so that one token's queries need no copy.

The logits of a node are the same bits in every tree of up to 32 nodes, whatever other nodes stand
between those of its path. MKL's products go through the summed dimension in order and one row at
a time as soon as there are a few rows, so masked keys add exact zeros in between; sums of
exponentials, which torch adds up in lanes, are products with ones here. Only where a tree's nodes
stand on both sides of a multiple of 320 slots can the last bit differ. `lm.bitwise` tries it.

Cost: a float32 copy of all linear weights. Keys in the cache have the interleaved order.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from jeton.lm.lean import MAX_EXACT_NODES, LeanForward, NotLeanError
from jeton.lm.tree import TokenTree

_PADDING = 16  # constant columns, as many as keep rows aligned; the first one holds the eps
_SUMMED = 320  # keys per product: longer sums are split by MKL at places that depend on them
_NODES = 2 * MAX_EXACT_NODES  # from here on torch's attention, which needs no scores in memory


@dataclass(frozen=True, slots=True)
class _FusedLayer:
    """Weights of one layer, each (in_features, out_features)."""

    attention_in: Tensor
    attention_bias: Tensor | None
    head_norm: Tensor | None
    out: Tensor
    mlp_in: Tensor
    down: Tensor


class FusedForward(LeanForward):
    """The plan with weights of its own; in float32 whatever the model's dtype."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Read the plan off a model and rearrange copies of its weights.

        Args:
            model: On the CPU, in float32 or bf16.
        Raises:
            NotLeanError: some part is unknown.
        """
        super().__init__(model)
        self.dtype, self.is_packed = torch.float32, True
        self._ones = self._tails = self._turn_table = torch.empty(0)
        self._columns = torch.empty(1, 0, _PADDING)
        self._fewest_queries = _fewest_rows(self._kv_heads, self._head_dim)

    def is_exact(self, length: int, tree: TokenTree) -> bool:
        """Whether the logits of a tree behind `length` tokens are the bits of single steps."""
        last = length + len(tree) - 1
        is_in_one_sum = length // _SUMMED == last // _SUMMED
        return len(tree) <= MAX_EXACT_NODES and (tree.is_chain or is_in_one_sum)

    def width(self, num_nodes: int) -> int:
        """Return how many nodes to run so that the rows of `num_nodes` have their usual bits.

        A single row takes another way through MKL.
        """
        return max(num_nodes, 2)

    def _read_weights(self, decoder: Any, head: nn.Linear) -> None:
        norms = [decoder.norm]
        for layer in decoder.layers:
            norms += [layer.input_layernorm, layer.post_attention_layernorm]
        if len({norm.variance_epsilon for norm in norms}) != 1:
            raise NotLeanError("its norms differ in eps")
        size = self._embedding.shape[1]
        self._size = size
        self._tail = torch.zeros(1, _PADDING)
        self._tail[0, 0] = math.sqrt(size * decoder.norm.variance_epsilon)
        # New head h * group + g stands where the model has head g * kv_heads + h.
        self._order = torch.arange(self._heads).view(self._kv_heads, -1).t().reshape(-1)
        half = self._head_dim // 2
        self._interleaved = torch.arange(self._head_dim).view(2, half).t().reshape(-1)
        self._fused = [self._fuse(layer) for layer in decoder.layers]
        self._last_norm = decoder.norm.weight.detach().float() * math.sqrt(size)
        self._head_in = self._behind_norm(head.weight, decoder.norm)
        if head.bias is not None:
            raise NotLeanError("its head has a bias")

    def _behind_norm(self, weight: Tensor, norm: Any) -> Tensor:
        """Return the transposed copy of a weight with the norm before it folded in."""
        size = weight.shape[1]
        folded = weight.detach().float() * (norm.weight.detach().float() * math.sqrt(size))
        return functional.pad(folded, (0, _PADDING)).t().contiguous()

    def _fuse(self, layer: Any) -> _FusedLayer:
        attention, mlp, size = layer.self_attn, layer.mlp, self._head_dim
        if attention.o_proj.bias is not None or any(
            part.bias is not None for part in (mlp.gate_proj, mlp.up_proj, mlp.down_proj)
        ):
            raise NotLeanError("linear layers other than those of keys have biases")

        def query(rows: Tensor) -> Tensor:
            by_head = rows.detach().float().view(self._heads, size, -1)
            return by_head[self._order][:, self._interleaved].flatten(0, 1)

        def key(rows: Tensor) -> Tensor:
            by_head = rows.detach().float().view(self._kv_heads, size, -1)
            return by_head[:, self._interleaved].flatten(0, 1)

        parts = attention.q_proj, attention.k_proj, attention.v_proj
        weight = torch.cat(
            [query(parts[0].weight), key(parts[1].weight), parts[2].weight.detach().float()]
        )
        bias = None
        if any(part.bias is not None for part in parts):
            found = [torch.zeros(p.out_features) if p.bias is None else p.bias for p in parts]
            bias = torch.cat(
                [query(found[0])[:, 0], key(found[1])[:, 0], found[2].detach().float()]
            )
        head_norm = None
        attention_in = self._behind_norm(weight, layer.input_layernorm)
        if hasattr(attention, "q_norm"):
            scale = math.sqrt(size)
            each = [n.weight.detach().float() for n in (attention.q_norm, attention.k_norm)]
            counts = self._heads, self._kv_heads
            head_norm = torch.cat(
                [w[self._interleaved].expand(c, -1) for w, c in zip(each, counts, strict=True)]
            )
            head_norm = head_norm * scale
            head_norm[: self._heads] *= self._scale
            self._head_eps = size * float(attention.q_norm.variance_epsilon)
        else:
            attention_in[:, : self._heads * size] *= self._scale
            if bias is not None:
                bias[: self._heads * size] *= self._scale
        out = attention.o_proj.weight.detach().float().t().view(self._heads, size, -1)
        down = mlp.down_proj.weight.detach().float().t()
        inner = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]).detach()
        return _FusedLayer(
            attention_in=attention_in,
            attention_bias=bias,
            head_norm=head_norm,
            out=functional.pad(out[self._order].flatten(0, 1), (0, _PADDING)).contiguous(),
            mlp_in=self._behind_norm(inner, layer.post_attention_layernorm),
            down=functional.pad(down, (0, _PADDING)).contiguous(),
        )

    def forward(
        self,
        ids: Tensor,
        positions: Tensor | slice,
        mask: Tensor,
        layers: Sequence[Any],
        slots: Any,
        keep: slice,
    ) -> tuple[Tensor, Tensor]:
        """Run tokens through the decoder; as `LeanForward.forward`."""
        batch, nodes = ids.shape
        rows = batch * nodes
        heads, kv_heads, group, size = self._heads, self._kv_heads, self._group, self._head_dim
        rotated, queries = (heads + kv_heads) * size, heads * size
        turn = self._turns(positions)
        visible = mask.shape[-1]
        bias = mask[:, :, None].expand(-1, nodes, group, visible)
        bias = bias.reshape(-1, 1, nodes * group, visible)
        is_short = nodes <= _NODES
        missing = max(self._fewest_queries - nodes * group, 0) if is_short else 0
        if missing:
            bias = functional.pad(bias, (0, 0, 0, missing))
        if is_short:  # scores are added to it
            bias = bias.expand(-1, kv_heads, -1, -1).flatten(0, 1) if batch > 1 else bias[0]
        normalize, attend = torch._weight_norm_interface, functional.scaled_dot_product_attention
        if rows > self._ones.shape[0]:
            self._ones, self._tails = torch.ones(rows, 1), self._tail.repeat(rows, 1)
        ones = self._ones[:rows]
        embedded = functional.embedding(ids.view(-1), self._embedding).float()
        states = torch.cat([embedded, self._tails[:rows]], 1)
        for layer, cached in zip(self._fused, layers, strict=True):
            normed = normalize(states, ones, 0)[0]
            if layer.attention_bias is None:
                found = torch.mm(normed, layer.attention_in)
            else:
                found = torch.addmm(layer.attention_bias, normed, layer.attention_in)
            if layer.head_norm is not None:
                self._norm_heads(found[:, :rotated].view(rows, -1, size), layer.head_norm)
            both = found[:, :rotated].view(rows, heads + kv_heads, size // 2, 2)
            torch.view_as_complex(both).mul_(turn)
            new = found[:, queries:].view(batch, nodes, 2, kv_heads, size).permute(2, 0, 3, 1, 4)
            keys, values = cached.write_both(new, slots, visible)
            query = found[:, :queries].reshape(batch, nodes * group, kv_heads, size).transpose(1, 2)
            if is_short:
                seen = self._attend(query, keys, values, bias, missing)
            else:
                seen = attend(query, keys, values, attn_mask=bias, scale=1.0)
            seen = seen.transpose(1, 2).reshape(rows, queries)
            states = torch.addmm(states, seen, layer.out)
            inner = torch.mm(normalize(states, ones, 0)[0], layer.mlp_in)
            gate, up = inner.chunk(2, 1)
            states = torch.addmm(states, functional.silu(gate).mul_(up), layer.down)
        last = normalize(states[keep], ones[keep], 0)[0]
        logits = torch.mm(last, self._head_in)
        return logits, last[:, : self._size] * self._last_norm

    def _attend(
        self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor, missing: int
    ) -> Tensor:
        """Do what torch's attention does, with sums whose order no other node can change.

        Args:
            query: Shape (batch, kv_heads, rows, head_dim).
            keys: Shape (batch, kv_heads, visible, head_dim), as `values`.
            values: Of the same rows.
            bias: Shape (1 or batch * kv_heads, rows + missing, visible).
            missing: Rows to add, so that products have as many as they need.
        """
        batch, kv_heads, rows, _ = query.shape
        visible = keys.shape[2]
        if visible > self._columns.shape[1]:
            self._columns = torch.ones(1, 2 * visible, _PADDING)
        if batch == 1:  # fewer calls than flattening
            query, keys, values = query[0], keys[0], values[0]
        else:
            query, keys, values = (part.flatten(0, 1) for part in (query, keys, values))
        if missing:
            query = functional.pad(query, (0, 0, 0, missing))
        scores = torch.baddbmm(bias, query, keys.transpose(1, 2))
        scores.sub_(scores.amax(-1, keepdim=True)).exp_()
        found = _summed(scores, values)
        total = _summed(scores, self._columns[:, :visible].expand(len(values), -1, -1))
        found = found.div_(total[..., :1])
        if missing:
            found = found[:, :rows]
        return found[None] if batch == 1 else found.unflatten(0, (batch, kv_heads))

    def _norm_heads(self, heads: Tensor, weight: Tensor) -> None:
        """Apply the RMS norms of queries and keys in place, shape (rows, heads, head_dim)."""
        length = torch.linalg.vector_norm(heads, dim=-1, keepdim=True)
        heads.mul_(length.pow_(2).add_(self._head_eps).rsqrt_()).mul_(weight)

    def _turns(self, positions: Tensor | slice) -> Tensor:
        """Return rotations as complex numbers, shape (rows, 1, head_dim / 2)."""
        self._grow_tables(positions)
        if self._turn_table.shape[0] != self._cosine.shape[0]:
            half = self._head_dim // 2
            parts = self._cosine[..., half:], self._sine[..., half:]
            self._turn_table = torch.complex(parts[0].contiguous(), parts[1].contiguous())
        return self._turn_table[positions]

    def in_model_order(self, keys: Tensor) -> Tensor:
        """Return keys of the cache in the order of the model's own forward."""
        return keys[..., self._interleaved.argsort()]


def _summed(scores: Tensor, values: Tensor) -> Tensor:
    """Return scores @ values, summed in blocks of keys that do not depend on their number."""
    visible = values.shape[1]
    found = torch.bmm(scores[..., :_SUMMED], values[:, :_SUMMED])
    for start in range(_SUMMED, visible, _SUMMED):
        part = slice(start, start + _SUMMED)
        found = torch.baddbmm(found, scores[..., part], values[:, part])
    return found


def _fewest_rows(kv_heads: int, head_dim: int) -> int:
    """Return the query rows from which on products have the bits of those with many rows.

    Found by trying: MKL takes other ways for a few rows, by a rule of its own.
    """
    generator = torch.Generator().manual_seed(0)
    query, keys, values = (
        torch.randn(kv_heads, count, head_dim, generator=generator) for count in (64, 320, 320)
    )
    scores, mixed = torch.bmm(query, keys.transpose(1, 2)), []
    for count in (16, 64, 208, 320):
        mixed.append(torch.bmm(scores[..., :count], values[:, :count]))
    fewest = 1
    for rows in range(1, 17):
        few = torch.bmm(query[:, :rows], keys.transpose(1, 2))
        is_same = torch.equal(few, scores[:, :rows]) and all(
            torch.equal(torch.bmm(few[..., :count], values[:, :count]), right[:, :rows])
            for count, right in zip((16, 64, 208, 320), mixed, strict=True)
        )
        if not is_same:
            fewest = rows + 1
    return fewest
