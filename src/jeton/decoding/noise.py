"""Counter-based noise: the same (seed, position) always gives the same numbers."""

import hashlib

import torch
from torch import Tensor


def gumbel(seed: int, position: int, size: int) -> Tensor:
    """Return standard Gumbel noise for one position of a text, shape (size,), float64.

    The noise depends on nothing but its arguments, so that whoever draws the token at a position
    draws the same one: with a drafter or without, in any batch.
    """
    key = hashlib.blake2b(f"{seed}:{position}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key, "little") >> 1)
    uniform = torch.rand(size, generator=generator, dtype=torch.float64)
    exponential = (-torch.log(uniform.clamp_min(1e-300))).clamp_min(1e-300)
    return -torch.log(exponential)
