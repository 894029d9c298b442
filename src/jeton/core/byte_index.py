"""Tokens sorted by their bytes, so that all tokens that begin with a prefix are one range."""

from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from jeton.core.vocabulary import Vocabulary


class ByteIndex:
    """The tokens that have bytes, sorted by bytes; equal bytes by id.

    Attributes:
        ids: Token ids in order of bytes, shape (tokens,), int64.
        lengths: Length of each of these tokens in bytes, shape (tokens,), int64.
    """

    def __init__(self, vocabulary: "Vocabulary") -> None:
        tokens = vocabulary.tokens
        order = sorted((i for i, token in enumerate(tokens) if token), key=tokens.__getitem__)
        self.ids: npt.NDArray[np.int64] = np.array(order, dtype=np.int64)
        self._tokens = [tokens[i] for i in order]
        self.lengths: npt.NDArray[np.int64] = np.fromiter(
            map(len, self._tokens), dtype=np.int64, count=len(order)
        )
        self._buffer = np.frombuffer(b"".join(self._tokens), dtype=np.uint8)
        self._starts = np.concatenate(([0], np.cumsum(self.lengths)))[:-1].astype(np.int64)

    def __len__(self) -> int:
        return len(self._tokens)

    def prefix_range(self, prefix: bytes) -> tuple[int, int]:
        """Return the range lo:hi of the tokens that begin with a prefix; empty when lo == hi.

        Args:
            prefix: Any bytes; the empty prefix gives all tokens.
        """
        low = bisect_left(self._tokens, prefix)
        after = prefix.rstrip(b"\xff")  # the smallest bytes above everything with this prefix
        if not after:
            return low, len(self._tokens)
        return low, bisect_left(self._tokens, after[:-1] + bytes([after[-1] + 1]), lo=low)

    def next_byte_bounds(self, low: int, high: int, depth: int) -> npt.NDArray[np.int64]:
        """Cut a range by the byte that follows its common prefix.

        Args:
            low: Start of a range of tokens that share their first `depth` bytes.
            high: End of that range.
            depth: Length of the shared prefix.
        Returns:
            Bounds, shape (257,), int64: tokens bounds[c]:bounds[c + 1] continue with byte c;
            tokens low:bounds[0] are equal to the prefix.
        """
        # equal tokens sort before longer ones, so they lead the range
        first = low + int(np.searchsorted(self.lengths[low:high] > depth, True))
        column = self._buffer[self._starts[first:high] + depth]
        return first + np.searchsorted(column, np.arange(257))
