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

from jeton.bytelm.paths import Paths

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Bits = npt.NDArray[np.uint8]  # a bit for each token id, as of numpy.packbits

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
    """Next-token logprobs after token sequences.

    Attributes:
        paths: The sequences by number.
    """

    paths: Paths

    def logprobs(self, nodes: Sequence[int], keep: int) -> list[FloatArray]:
        """Return the logprobs after each sequence.

        Args:
            nodes: Numbers of sequences in `paths`.
            keep: A beginning that all sequences of the near future share: worth caching.
        Returns:
            One array for each, shape (vocab_size or more,), nats; a constant may be added.
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

    def mask(self, state: Hashable) -> tuple[Bits | None, bool]:
        """Return which tokens may follow, packed by id, None for all; and if the text may end."""
        ...


class FreeRule:
    """Every sequence counts."""

    def start(self) -> Hashable:
        """Return the only state."""
        return None

    def step(self, state: Hashable, token_id: int) -> Hashable:
        """Return the only state."""
        return None

    def mask(self, state: Hashable) -> tuple[Bits | None, bool]:
        """Allow everything."""
        return None, True


def is_set(bits: Bits, token_id: int) -> bool:
    """Return whether a packed mask has a token.

    Example:
        >>> [is_set(np.packbits(np.array([False, True])), i) for i in (0, 1)]
        [False, True]
    """
    return bool(bits[token_id >> 3] >> (7 - (token_id & 7)) & 1)
