"""A forward for decoding, written once over the modules of Llama-like models.

The modules of transformers spend most of a small model's step on the way between operators. This
forward asks the same weights for the same result with a third of the calls: heads that share keys
are rows of one query, keys and values go straight into the rows of the cache, rotary factors come
from a table, and the head sees only the rows whose logits are wanted.

Whether a model is Llama-like is read off its modules, and then proven: `recognise` gives a plan
only for modules it knows in every part, and the runner compares its logits with those of the
model on a dry run before it is used.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from jeton.lm.cache import SlotLayer
from jeton.lm.packed_linear import PackedLinear, packed_layer
from jeton.lm.tree import TokenTree

KEY_STEP = 16  # visible keys are a multiple of it, so that sums over keys are blocked alike
MAX_EXACT_NODES = 32  # widest forward whose rows have the bits of narrow ones
_STATIC_ROPE = {"default", "linear", "llama3", "yarn"}
_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

Rows = Callable[[Tensor], Tensor]
Norm = Callable[[Tensor], Tensor]


class NotLeanError(Exception):
    """The model has a part that this forward does not know; the message says which."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """The parts of one decoder layer, as functions of rows."""

    norm: Norm
    query: Rows
    key: Rows
    value: Rows
    query_norm: Norm | None
    key_norm: Norm | None
    out: Rows
    mlp_norm: Norm
    gate: Rows
    up: Rows
    down: Rows


class LeanForward:
    """The decoder of one model as a plan of few operators; holds no state of a text."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Read the plan off the model's modules.

        Args:
            model: Whose weights are used as they are, or as `packed` laid them out.
        Raises:
            NotLeanError: some part is unknown.
        """
        config: Any = model.config
        _check_modules(model)
        decoder: Any = model.model
        head: Any = model.get_output_embeddings()
        packs = [packed_layer(m) for m in model.modules() if type(m) is nn.Linear]
        dtypes = {model.dtype if pack is None else pack.dtype for pack in packs}
        if len(dtypes) != 1:
            raise NotLeanError("some linear layers are packed and some are not")
        self.dtype: torch.dtype = dtypes.pop()
        self.is_packed = all(pack is not None for pack in packs)
        attention = decoder.layers[0].self_attn
        self._head_dim = int(attention.head_dim)
        self._heads = attention.q_proj.out_features // self._head_dim
        self._kv_heads = attention.k_proj.out_features // self._head_dim
        self._group = self._heads // self._kv_heads
        self._scale = float(attention.scaling)
        self._embedding = decoder.embed_tokens.weight
        self._rotary = decoder.rotary_emb
        self.num_layers = len(decoder.layers)
        self._read_weights(decoder, head)
        self._hooks = [h for m in model.modules() for h in (m._forward_hooks, m._forward_pre_hooks)]
        self._cosine = self._sine = torch.empty(0)
        self._band = torch.empty(0)
        self.num_embeddings = int(self._embedding.shape[0])
        self._limit = int(getattr(config, "max_position_embeddings", 0) or 0)

    def _read_weights(self, decoder: Any, head: nn.Linear) -> None:
        self._layers = [_read_layer(layer, self.dtype) for layer in decoder.layers]
        self._norm = _norm(decoder.norm, self.dtype)
        self._head = _rows(head)

    @property
    def has_hooks(self) -> bool:
        """Whether somebody listens to the modules, which this forward would not call."""
        return any(self._hooks)

    def is_exact(self, length: int, tree: TokenTree) -> bool:
        """Whether it is known that a tree's logits are the bits of single steps."""
        return False

    def width(self, num_nodes: int) -> int:
        """Return how many nodes to run so that the rows of `num_nodes` have their usual bits.

        One row can go another way through oneDNN's products than several do.
        """
        return max(num_nodes, 2) if self.is_packed else num_nodes

    def run(
        self,
        layers: Sequence[SlotLayer],
        length: int,
        ids: list[int],
        tree: TokenTree | None,
        keep: int,
    ) -> tuple[Tensor, Tensor]:
        """Run the next tokens of one text, or the nodes of a tree behind it.

        Args:
            layers: Of the cache, with `length` rows in use.
            length: Tokens of the text.
            ids: New tokens, or those of the tree's nodes.
            tree: None for a chain.
            keep: Last rows that get logits.
        Returns:
            Logits, shape (keep, num_embeddings), float32, and last hidden states.
        """
        real = len(ids)
        wide = self.width(real)
        padding = wide - real
        visible = -(-(length + wide) // KEY_STEP) * KEY_STEP
        positions: Tensor | slice = slice(length, length + wide)
        if tree is None:
            mask = self.chain_mask(length, wide, visible)
        else:
            device = self._embedding.device
            positions = torch.tensor(tree.depths + [0] * padding, device=device) + length
            mask = self.tree_mask(tree, length, wide, visible)
        start = max(0, min(real - keep, wide - self.width(keep)))
        padded = torch.tensor([ids + ids[-1:] * padding], device=self._embedding.device)
        logits, states = self.forward(padded, positions, mask, layers, length, slice(start, wide))
        for layer in layers if padding else ():
            layer.used -= padding
        kept = slice(real - keep - start, real - start)
        return logits[kept], states[kept]

    def forward(
        self,
        ids: Tensor,
        positions: Tensor | slice,
        mask: Tensor,
        layers: Sequence[Any],
        slots: Any,
        keep: slice,
    ) -> tuple[Tensor, Tensor]:
        """Run tokens through the decoder; their keys and values are written into the cache.

        Args:
            ids: Shape (batch, nodes).
            positions: Of the tokens, shape (batch * nodes,), or a slice when they follow on.
            mask: 0 or -inf, shape (batch or 1, nodes, visible).
            layers: Of the cache, each a `RowLayer`.
            slots: Where the cache writes the rows.
            keep: Rows of batch * nodes that get logits; as many as `width` says, or all.
        Returns:
            Logits of the kept rows, shape (kept, num_embeddings), float32, and their last hidden
            states, shape (kept, hidden).
        """
        batch, nodes = ids.shape
        heads, kv_heads, group, size = self._heads, self._kv_heads, self._group, self._head_dim
        cosine, sine = self._rotate_by(positions)
        visible = mask.shape[-1]
        bias = mask[:, None, None].expand(-1, 1, group, nodes, visible)
        bias = bias.reshape(-1, 1, group * nodes, visible)
        attend = functional.scaled_dot_product_attention
        states = functional.embedding(ids.reshape(-1), self._embedding).to(self.dtype)
        for layer, rows in zip(self._layers, layers, strict=True):
            normed = layer.norm(states)
            query, key, value = layer.query(normed), layer.key(normed), layer.value(normed)
            if layer.query_norm is not None and layer.key_norm is not None:
                query = layer.query_norm(query.view(-1, heads, size)).view(-1, heads * size)
                key = layer.key_norm(key.view(-1, kv_heads, size)).view(-1, kv_heads * size)
            both = torch.cat([query, key], -1).view(-1, heads + kv_heads, size)
            both = torch.addcmul(both * cosine, both.roll(size // 2, -1), sine)
            keys, values = rows.write(
                both[:, heads:].view(batch, nodes, kv_heads, size).transpose(1, 2),
                value.view(batch, nodes, kv_heads, size).transpose(1, 2),
                slots,
                visible,
            )
            query = both[:, :heads].view(batch, nodes, kv_heads, group, size)
            query = query.permute(0, 2, 3, 1, 4).reshape(batch, kv_heads, group * nodes, size)
            found = attend(query, keys, values, attn_mask=bias, scale=self._scale)
            found = found.unflatten(2, (group, nodes)).permute(0, 3, 1, 2, 4)
            states = layer.out(found.reshape(batch * nodes, heads * size)).add_(states)
            normed = layer.mlp_norm(states)
            inner = functional.silu(layer.gate(normed), inplace=True).mul_(layer.up(normed))
            states = layer.down(inner).add_(states)
        last = self._norm(states[keep])
        return self._head(last).float(), last

    def chain_mask(self, length: int, num_nodes: int, visible: int) -> Tensor:
        """Return the mask of a chain behind `length` tokens, shape (1, nodes, visible)."""
        if num_nodes > 2 * MAX_EXACT_NODES:
            hidden = torch.full((num_nodes, visible), -math.inf, dtype=self.dtype)
            return hidden.triu_(length + 1)[None].to(self._embedding.device)
        half = self._band.shape[-1] // 2
        if visible > half:
            half = max(2 * visible, 256)
            hidden = torch.full((2 * MAX_EXACT_NODES, 2 * half), -math.inf, dtype=self.dtype)
            self._band = hidden.triu_(half + 1)[None].to(self._embedding.device)
        start = half - length  # row i of the band shows its columns up to half + i
        return self._band[:, :num_nodes, start : start + visible]

    def tree_mask(self, tree: TokenTree, length: int, num_nodes: int, visible: int) -> Tensor:
        """Return the mask of a tree, padded with nodes that see only the first key."""
        mask = torch.full((num_nodes, visible), -math.inf, dtype=self.dtype)
        real = len(tree)
        mask[:real, :length] = 0.0
        seen = torch.from_numpy(tree.ancestor_mask())
        mask[:real, length : length + real].masked_fill_(seen, 0.0)
        mask[real:, 0] = 0.0
        return mask[None].to(self._embedding.device)

    def in_model_order(self, keys: Tensor) -> Tensor:
        """Return keys of the cache as the model's own forward would have written them."""
        return keys

    def _rotate_by(self, positions: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Return cosines and signed sines, shape (rows, 1, head_dim)."""
        self._grow_tables(positions)
        return self._cosine[positions], self._sine[positions]

    def _grow_tables(self, positions: Tensor | slice) -> None:
        """Ask the model's own module for the rotary factors of more positions."""
        needed = positions.stop if isinstance(positions, slice) else int(positions.max()) + 1
        if needed <= self._cosine.shape[0]:
            return
        count = max(2 * needed, min(self._limit, 1024))
        at = torch.arange(count, device=self._embedding.device)[None]
        like = torch.empty(0, dtype=self.dtype, device=self._embedding.device)
        cosine, sine = self._rotary(like, at)
        half = self._head_dim // 2
        if cosine.shape[-1] != self._head_dim:
            raise NotLeanError("rotary factors cover a part of each head")
        self._cosine = cosine[0, :, None]
        self._sine = torch.cat([-sine[0, :, None, :half], sine[0, :, None, half:]], -1)


def _check_modules(model: PreTrainedModel) -> None:
    """Refuse a model with any part that the forward does not know."""
    config: Any = model.config
    if set(dict(model.named_children())) != {"model", "lm_head"}:
        raise NotLeanError("its parts are not a decoder and a head")
    decoder: Any = model.model
    if set(dict(decoder.named_children())) != {"embed_tokens", "layers", "norm", "rotary_emb"}:
        raise NotLeanError("its decoder has parts of its own")
    if type(decoder.embed_tokens) is not nn.Embedding or decoder.embed_tokens.max_norm is not None:
        raise NotLeanError("its embedding is no plain table")
    if getattr(config, "hidden_act", None) != "silu":
        raise NotLeanError(f"its activation is {getattr(config, 'hidden_act', None)}")
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") not in _STATIC_ROPE:
        raise NotLeanError("its positions are not rotary ones of fixed frequency")
    for module in model.modules():
        replaced = vars(module).get("forward")
        if replaced is not None and not isinstance(replaced, PackedLinear):
            raise NotLeanError(f"the forward of a {type(module).__name__} was replaced")
        if module._forward_hooks or module._forward_pre_hooks:
            raise NotLeanError(f"a {type(module).__name__} has hooks")
    for layer in decoder.layers:
        _check_layer(layer)
    if type(model.lm_head) is not nn.Linear:
        raise NotLeanError("its head is no linear layer")
    if len({p.dtype for p in model.parameters()}) != 1:
        raise NotLeanError("its weights have several dtypes")


def _check_layer(layer: Any) -> None:
    """Refuse a decoder layer with unknown parts."""
    attention = set(dict(layer.self_attn.named_children())) if hasattr(layer, "self_attn") else None
    mlp = set(dict(layer.mlp.named_children())) if hasattr(layer, "mlp") else None
    outer = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
    if set(dict(layer.named_children())) != outer:
        raise NotLeanError("its layers have parts of their own")
    if attention not in ({*_LINEAR[:4]}, {*_LINEAR[:4], "q_norm", "k_norm"}):
        raise NotLeanError("its attention has parts of its own")
    if mlp != {*_LINEAR[4:], "act_fn"}:
        raise NotLeanError("its feed-forward layers have parts of their own")
    for name in _LINEAR:
        if type(getattr(layer.self_attn, name, None) or getattr(layer.mlp, name)) is not nn.Linear:
            raise NotLeanError(f"{name} is no plain linear layer")


def _read_layer(layer: Any, dtype: torch.dtype) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    has_norms = hasattr(attention, "q_norm")
    return _Layer(
        norm=_norm(layer.input_layernorm, dtype),
        query=_rows(attention.q_proj),
        key=_rows(attention.k_proj),
        value=_rows(attention.v_proj),
        query_norm=_norm(attention.q_norm, dtype) if has_norms else None,
        key_norm=_norm(attention.k_norm, dtype) if has_norms else None,
        out=_rows(attention.o_proj),
        mlp_norm=_norm(layer.post_attention_layernorm, dtype),
        gate=_rows(mlp.gate_proj),
        up=_rows(mlp.up_proj),
        down=_rows(mlp.down_proj),
    )


def _rows(module: nn.Linear) -> Rows:
    """Return a linear layer as a function of rows in the plan's dtype."""
    pack = packed_layer(module)
    if pack is not None:
        return pack.rows
    weight, bias = module.weight, module.bias
    return lambda rows: functional.linear(rows, weight, bias)


def _norm(module: Any, dtype: torch.dtype) -> Norm:
    """Return an RMS norm over the last dimension as a function of rows."""
    weight, eps = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
    if weight is None or eps is None or len(list(module.parameters())) != 1:
        raise NotLeanError(f"{type(module).__name__} is no RMS norm that is known")
    size = weight.shape[0]
    if dtype != torch.float32:
        return lambda rows: functional.rms_norm(rows, (size,), weight, eps)
    root = math.sqrt(size)  # x / sqrt(sum x^2 + n eps) * sqrt(n) w: fewer calls than torch's own

    def norm(rows: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
        scale = length.pow_(2).add_(size * eps).rsqrt_().mul_(root)
        normed: Tensor = (rows * scale).mul_(weight)
        return normed

    return norm
