"""Exact attention mass in blocks: how much attention every key got, without the square matrix."""

from collections.abc import Callable

import torch
from torch import Tensor

from jeton.lm.packed_linear import has_bf16_instructions

_BLOCK_ELEMENTS = 1 << 18  # logits held at once: 1 MB stays in the cache of a core


def attention_logits(
    query: Tensor, keys: Tensor, scaling: float, softcap: float | None = None
) -> Tensor:
    """Return float32 logits of every query head against the keys of its group.

    Args:
        query: Shape (batch, heads, queries, head_dim).
        keys: Shape (batch, kv_heads, rows, head_dim); head h reads kv_head h // (heads/kv_heads).
        scaling: Of the products.
        softcap: Bound of the logits by a tanh, or None.
    Returns:
        Shape (batch, heads, queries, rows).
    Example:
        >>> query, keys = torch.ones(1, 2, 1, 4), torch.ones(1, 1, 3, 4)
        >>> attention_logits(query, keys, 0.5).tolist()
        [[[[2.0, 2.0, 2.0]], [[2.0, 2.0, 2.0]]]]
    """
    batch, num_heads, num_queries, head_dim = query.shape
    kv_heads, num_rows = keys.shape[1:3]
    grouped = query.reshape(batch, kv_heads, -1, head_dim)
    few = query.dtype == torch.bfloat16 and grouped.shape[2] <= 4
    if few and has_bf16_instructions():  # then six times faster this way round, else half as fast
        logits = torch.matmul(keys, grouped.transpose(2, 3)).transpose(2, 3)
    else:
        logits = torch.matmul(grouped, keys.transpose(2, 3))
    logits = logits.reshape(batch, num_heads, num_queries, num_rows).float().mul_(scaling)
    return logits if softcap is None else torch.tanh(logits / softcap) * softcap


def causal_mass(
    query: Tensor,
    keys: Tensor,
    *,
    scaling: float,
    softcap: float | None = None,
    pads: list[int] | None = None,
    decay: float = 1.0,
    adjust: Callable[[int, int, Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the attention that each key gets from the last queries of a causal text.

    The block of queries is as small as the cache of a core asks; the result is that of the
    whole matrix: sum over q of decay^(last - q) softmax(logits[q])[k], summed over grouped heads.

    Args:
        query: Of the last tokens, shape (batch, heads, queries, head_dim).
        keys: Of all tokens, shape (batch, kv_heads, rows, head_dim), rows >= queries.
        scaling: Of the logits.
        softcap: Of the logits, or None.
        pads: Columns of padding at the start of each text; None for none.
        decay: Weight of each query relative to the next one.
        adjust: Given text, kv_head and logits of shape (group, queries, rows), returns others.
    Returns:
        Shape (batch, kv_heads, rows), float32.
    """
    batch, _, num_queries, head_dim = query.shape
    kv_heads, num_rows = keys.shape[1:3]
    grouped = query.reshape(batch, kv_heads, -1, num_queries, head_dim)
    group = grouped.shape[2]
    first = num_rows - num_queries
    ages = torch.arange(num_queries - 1, -1, -1, device=query.device)
    weights = torch.full((), decay, dtype=torch.float32, device=query.device) ** ages
    mass = torch.zeros(batch, kv_heads, num_rows, device=query.device)
    step = min(max(16, _BLOCK_ELEMENTS // (group * num_rows)), num_queries)
    later = torch.ones(step, step, dtype=torch.bool, device=query.device).triu_(1)
    for text in range(batch):
        pad = pads[text] if pads else 0
        for head in range(kv_heads):
            columns = _as_computed(keys[text, head]).t().contiguous()
            for start in range(max(0, pad - first), num_queries, step):
                end = min(start + step, num_queries)
                visible = slice(pad, first + end)
                logits = _logits(grouped[text, head, :, start:end], columns[:, visible], scaling)
                if softcap is not None:
                    logits = torch.tanh(logits / softcap) * softcap
                if adjust is not None:
                    logits = adjust(text, head, logits)
                size = end - start
                logits[..., -size:].masked_fill_(later[:size, :size], float("-inf"))
                mass[text, head, visible] += _column_sums(logits, weights[start:end])
    return mass


def _as_computed(part: Tensor) -> Tensor:
    """Return keys or queries in float32 where bf16 products would be emulated."""
    is_emulated = part.dtype == torch.bfloat16 and part.device.type == "cpu"
    return part.float() if is_emulated and not has_bf16_instructions() else part


def _logits(query: Tensor, columns: Tensor, scaling: float) -> Tensor:
    """Return float32 logits (group, queries, rows) of queries of one group."""
    group, num_queries, head_dim = query.shape
    rows = _as_computed(query).reshape(group * num_queries, head_dim)
    return torch.mm(rows, columns).float().mul_(scaling).view(group, num_queries, -1)


def _column_sums(logits: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum over group and queries of the softmax; changes the logits."""
    parts = logits.sub_(logits.amax(-1, keepdim=True)).exp_()
    return torch.mv(parts.flatten(0, 1).t(), (weights / parts.sum(-1)).flatten())
