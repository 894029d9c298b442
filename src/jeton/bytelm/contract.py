"""What byte-level probabilities are made of: a token model and a rule of canonical sequences.

Laws (tested in tests/contract/test_bytelm.py):
1. The 257 next-symbol probabilities (256 bytes, end of text) sum to one.
2. The chain of conditionals is the joint: the product over a text is the sum over its covers.
3. `all`: the probabilities are those of every tokenization, by brute force; bounds hold.
4. `canonical`: the probability of a finished text is the masked token likelihood of its encoding.
5. The encoding of a text is always among the stems; a rule that loses it is found out.
"""

from collections.abc import Hashable, Sequence
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Path = tuple[int, ...]

END = 256  # the index of end-of-text among the 257 symbols
NUM_SYMBOLS = 257


class Measure(StrEnum):
    """Which tokenizations of a text count, and how.

    `CANONICAL`: next tokens that the tokenizer would not write are masked, the others renormalised
    token by token. A proper measure over texts: it sums to one and its chain is its joint.
    `ALL`: every tokenization: the law of what raw sampling writes, within certified bounds.
    `FAST`: canonical stems under the model's unmasked probabilities. Conditionals are normalised,
    their product is not the joint; what is lost is reported as the leak.
    """

    CANONICAL = "canonical"
    ALL = "all"
    FAST = "fast"


class TokenLM(Protocol):
    """Next-token logprobs after paths of token ids."""

    @property
    def vocab_size(self) -> int:
        """Length of a row of logprobs."""
        ...

    def logprobs(self, paths: Sequence[Path], keep: int) -> list[FloatArray]:
        """Return the logprobs after each path.

        Args:
            paths: Token ids from the very beginning.
            keep: Tokens that all paths of the near future share: worth caching.
        Returns:
            One array for each path, shape (vocab_size,), nats.
        """
        ...


class Rule(Protocol):
    """Decides which sequences of tokens a tokenizer writes."""

    def start(self) -> Hashable:
        """Return the state before the first token."""
        ...

    def step(self, state: Hashable, token_id: int) -> Hashable:
        """Return the state after one more allowed token."""
        ...

    def mask(self, state: Hashable) -> tuple[BoolArray | None, bool]:
        """Return which tokens may follow, shape (vocab_size,), None for all; and if it may end."""
        ...

    def allows(self, state: Hashable, token_id: int) -> bool:
        """Return whether one token may follow."""
        ...


class FreeRule:
    """Every sequence counts."""

    def start(self) -> Hashable:
        """Return the only state."""
        return None

    def step(self, state: Hashable, token_id: int) -> Hashable:
        """Return the only state."""
        return None

    def mask(self, state: Hashable) -> tuple[BoolArray | None, bool]:
        """Allow everything."""
        return None, True

    def allows(self, state: Hashable, token_id: int) -> bool:
        """Allow it."""
        return True
