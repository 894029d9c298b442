"""What a merge engine works on, counted words, and what it gives, merges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Words:
    """Distinct words as symbols, with counts.

    Attributes:
        symbols: Ids of all words one after the other, shape (symbols,), int32; -1 never merges.
        ends: End of each word in `symbols`, shape (words,), int64.
        counts: Occurrences of each word, shape (words,), int64.
    """

    symbols: NDArray[np.int32]
    ends: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def from_bytes(
        cls,
        items: Sequence[tuple[bytes, int]],
        byte_ids: NDArray[np.int32],
        whole: Mapping[bytes, int] | None = None,
    ) -> "Words":
        """Return words of one symbol per byte.

        Args:
            items: Words and their counts.
            byte_ids: Id of each byte, shape (256,), int32.
            whole: Words that are one symbol from the start, for tokenizers with `ignore_merges`.
        """
        data = np.frombuffer(b"".join(key for key, _ in items), dtype=np.uint8)
        lengths = np.array([len(key) for key, _ in items], dtype=np.int64)
        counts = np.array([n for _, n in items], dtype=np.int64)
        symbols = byte_ids[data]
        if whole:
            ids = np.array([whole.get(key, -1) for key, _ in items], dtype=np.int32)
            starts = np.cumsum(lengths) - lengths
            taken = (ids >= 0) & (lengths > 0)
            symbols[starts[taken]] = ids[taken]
            is_rest = np.repeat(taken, lengths)
            is_rest[starts[taken]] = False
            symbols, lengths = symbols[~is_rest], np.where(taken, 1, lengths)
        return cls(symbols, np.cumsum(lengths, dtype=np.int64), counts)


@dataclass(frozen=True)
class Merges:
    """The rules that an engine applied, in order.

    Attributes:
        pairs: Ids of both parts, shape (rules, 2), int64.
        products: Ids of the results, shape (rules,), int64.
        counts: Occurrences of the pair when it was merged, shape (rules,), int64.
        num_tokens: Tokens of the text after the rule, shape (rules,), int64.
    """

    pairs: NDArray[np.int64]
    products: NDArray[np.int64]
    counts: NDArray[np.int64]
    num_tokens: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.products)
