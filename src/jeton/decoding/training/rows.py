"""Rows of text, and what the target says about them."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from jeton.errors import ConfigError
from jeton.lm.load import LanguageModel


def row_length(target: LanguageModel, token_ids: Tensor, wanted: int) -> int:
    """Return the tokens per row that text and model allow.

    Raises:
        ConfigError: fewer than 8.
    """
    length = min(wanted, target.max_length or wanted, len(token_ids) - 1)
    if length < 8:
        raise ConfigError(
            f"training a draft needs more text: {len(token_ids)} tokens were given",
            hint="give more --text",
        )
    return length


def sample_rows(token_ids: Tensor, num_rows: int, length: int, seed: int, step: int) -> Tensor:
    """Return pieces of the text, shape (rows, length): a function of seed and step alone."""
    rng = np.random.default_rng([seed, step])
    starts = rng.integers(0, len(token_ids) - length + 1, size=num_rows)
    return torch.stack([token_ids[start : start + length] for start in starts])


@torch.no_grad()
def last_hidden(model: Any, rows: Tensor) -> Tensor:
    """Return the target's last hidden states, shape (rows, seq, hidden), float32."""
    hidden: Tensor = model.base_model(input_ids=rows, use_cache=False).last_hidden_state
    return hidden.float()


@torch.no_grad()
def logits_of(model: Any, rows: Tensor, vocab_size: int) -> Tensor:
    """Return the target's logits, shape (rows, seq, vocab_size), float32."""
    logits: Tensor = model(input_ids=rows, use_cache=False).logits
    return logits[..., :vocab_size].float()


def soft_cross_entropy(teacher: Tensor, logits: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits against a teacher's probabilities.

    Args:
        teacher: Probabilities, shape (..., vocab).
        logits: Of the student, the same shape.
    """
    return (logits.logsumexp(-1) - (teacher * logits).sum(-1)).mean()


def float_copy(weight: Tensor | None) -> Tensor | None:
    """Return a float32 copy of a weight that takes no gradient."""
    return None if weight is None else weight.detach().float().clone()


def linear(states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return states times a fixed matrix."""
    return functional.linear(states, weight, bias)
