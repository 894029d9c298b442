"""Sampling as plain functions on logits; the last dimension is that of the tokens.

Order of use, as in transformers: repetition_penalty, apply_temperature, top_k, top_p, min_p,
sample. Filters set what they exclude to -inf and never exclude the most probable token. Logits
have num_embeddings columns; rows without a token (padding) are the caller's to exclude.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from jeton.errors import ConfigError

_EXCLUDED = float("-inf")


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Return logits / temperature; for 0 use `greedy`.

    Raises:
        ConfigError: temperature is not above 0.
    """
    if not 0.0 < temperature < float("inf"):
        raise ConfigError(
            f"temperature must be above 0, got {temperature}", hint="for 0 decode greedily"
        )
    return logits / temperature


def top_k(logits: Tensor, k: int) -> Tensor:
    """Exclude all but the k highest logits; ties with the k-th stay, as in transformers.

    Args:
        logits: Shape (..., num_embeddings).
        k: At least 1; more than there are tokens excludes none.
    Raises:
        ConfigError: k is below 1.

    Example:
        >>> top_k(torch.tensor([1.0, 3.0, 2.0]), 2)
        tensor([-inf, 3., 2.])
    """
    if k < 1:
        raise ConfigError(f"top_k must be 1 or more, got {k}")
    kth = logits.topk(min(k, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < kth, _EXCLUDED)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the most probable tokens until their probabilities reach p (nucleus sampling).

    Equally probable tokens at the border are taken by lowest id.

    Args:
        logits: Shape (..., num_embeddings).
        p: In (0, 1]; 1 excludes none.
    Raises:
        ConfigError: p is outside its range.
    """
    if not 0.0 < p <= 1.0:
        raise ConfigError(
            f"top_p must be in (0, 1], got {p}", hint="for a single token use top_k 1"
        )
    if p == 1.0:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    excluded = before >= p
    excluded[..., 0] = False
    return logits.masked_fill(torch.zeros_like(excluded).scatter(-1, order, excluded), _EXCLUDED)


def min_p(logits: Tensor, p: float) -> Tensor:
    """Exclude tokens less probable than p times the most probable one.

    Args:
        logits: Shape (..., num_embeddings).
        p: In [0, 1]; 0 excludes none.
    Raises:
        ConfigError: p is outside its range.
    """
    if not 0.0 <= p <= 1.0:
        raise ConfigError(f"min_p must be in [0, 1], got {p}")
    logprobs = logits.log_softmax(dim=-1)
    if p == 0.0:
        return logits
    border = logprobs.amax(dim=-1, keepdim=True) + torch.log(torch.tensor(p, dtype=logprobs.dtype))
    return logits.masked_fill(logprobs < border, _EXCLUDED)


def repetition_penalty(logits: Tensor, token_ids: Sequence[int] | Tensor, penalty: float) -> Tensor:
    """Make tokens that were already used less likely (CTRL, Keskar et al. 2019, section 4.1).

    Positive logits are divided by the penalty, negative ones multiplied.

    Args:
        logits: Shape (..., num_embeddings).
        token_ids: The used tokens, of every row alike; repeats count once.
        penalty: Above 0; 1 changes nothing, more makes repeats less likely.
    Raises:
        ConfigError: penalty is not above 0.
    """
    if not 0.0 < penalty < float("inf"):
        raise ConfigError(f"repetition_penalty must be above 0, got {penalty}")
    used = torch.as_tensor(token_ids, dtype=torch.int64, device=logits.device).unique()
    chosen = logits.index_select(-1, used)
    changed = torch.where(chosen > 0, chosen / penalty, chosen * penalty)
    return logits.index_copy(-1, used, changed)


def greedy(logits: Tensor) -> Tensor:
    """Return the token of the highest logit, shape (...), int64; ties take the lowest id."""
    return logits.argmax(dim=-1)


def sample(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw a token from softmax(logits).

    Args:
        logits: Shape (..., num_embeddings).
        generator: Of the logits' device; None draws from torch's global one.
    Returns:
        Token ids, shape (...), int64.
    Raises:
        ConfigError: a row has no finite logit, or a NaN.
    """
    flat = logits.reshape(-1, logits.shape[-1])
    if bool(flat.isnan().any()) or bool((flat.amax(dim=-1) == _EXCLUDED).any()):
        raise ConfigError("logits to sample from are NaN or exclude every token")
    drawn = torch.multinomial(flat.softmax(dim=-1), 1, generator=generator)
    return drawn.reshape(logits.shape[:-1])
