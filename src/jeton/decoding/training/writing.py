"""Text that a model writes itself, many rows at once."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


@torch.no_grad()
def write(
    model: Any,
    prompts: Tensor,
    num_new: int,
    *,
    vocab_size: int,
    temperature: float,
    rng: np.random.Generator,
) -> Tensor:
    """Return the prompts with what the model writes after them.

    Args:
        model: Of transformers, with a cache.
        prompts: Shape (rows, prompt), int64.
        num_new: Tokens to write.
        vocab_size: Ids that may be written.
        temperature: 0 takes the most likely token.
        rng: The noise.
    Returns:
        Shape (rows, prompt + num_new).
    """
    rows = prompts
    cache = None
    fresh = prompts
    for _ in range(num_new):
        output = model(input_ids=fresh, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        logits = output.logits[:, -1, :vocab_size].float()
        if temperature > 0:
            noise = torch.from_numpy(rng.gumbel(size=tuple(logits.shape))).to(logits)
            logits = logits / temperature + noise
        fresh = logits.argmax(-1, keepdim=True)
        rows = torch.cat([rows, fresh], dim=1)
    return rows
