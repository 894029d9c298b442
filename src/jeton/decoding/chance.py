"""The two random decisions of speculative sampling, seeded, or enumerated by a test."""

from typing import Protocol

import torch
from torch import Tensor

from jeton.decoding.noise import uniforms

VERIFY_STREAM = 1
DRAFT_STREAM = 2


class Chance(Protocol):
    """A source of decisions; tests replace it by one that goes through all of them."""

    def at(self, position: int) -> None:
        """Start the decisions that belong to a position of the text."""
        ...

    def accepts(self, probability: float) -> bool:
        """Return True with this probability."""
        ...

    def draws(self, weights: Tensor) -> int:
        """Return an index with a probability proportional to its weight, shape (vocab,)."""
        ...


class SeededChance:
    """Decisions from counter-based noise: a function of seed, stream and position."""

    def __init__(self, seed: int, stream: int) -> None:
        self._seed, self._stream = seed, stream
        self._noise = uniforms(seed, 0, stream)

    def at(self, position: int) -> None:
        """Start the decisions that belong to a position."""
        self._noise = uniforms(self._seed, position, self._stream)

    def accepts(self, probability: float) -> bool:
        """Return True with this probability."""
        return bool(self._noise.random() < probability)

    def draws(self, weights: Tensor) -> int:
        """Return an index by inversion of the cumulated weights."""
        cumulated = weights.double().cumsum(-1)
        level = self._noise.random() * float(cumulated[-1])
        index = int(torch.searchsorted(cumulated, level, right=True))
        # Rounding at the top end must not leave the support.
        return index if index < len(weights) else int(weights.nonzero()[-1])
