"""Counter-based noise: the same (seed, position) always gives the same numbers."""

import numpy as np
import torch
from numpy.random import Generator, Philox
from torch import Tensor

_KEY_BITS = 128  # of Philox 4x64; seeds count modulo 2**128


def uniforms(seed: int, position: int, stream: int = 0) -> Generator:
    """Return the generator that belongs to one position of a text.

    Args:
        seed: Any integer.
        position: Absolute position in the text, at least 0.
        stream: Independent streams for independent purposes.
    """
    key = seed % (1 << _KEY_BITS)
    # Philox counts up in the lowest word, so positions and streams never overlap.
    return Generator(Philox(key=key, counter=[0, 0, position, stream]))


def gumbel(seed: int, position: int, size: int) -> Tensor:
    """Return standard Gumbel noise for one position of a text, shape (size,), float64.

    The noise depends on nothing but its arguments, so that whoever draws the token at a position
    draws the same one: with a drafter or without, in any batch. A longer row begins with the
    shorter one.

    Example:
        >>> bool((gumbel(1, 7, 3) == gumbel(1, 7, 5)[:3]).all())
        True
    """
    uniform = uniforms(seed, position).random(size)  # multiples of 2**-53 in [0, 1)
    exponential = np.maximum(-np.log1p(-uniform), 2.0**-54)
    return torch.from_numpy(-np.log(exponential))
