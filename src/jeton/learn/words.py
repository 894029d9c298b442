"""What a merge engine works on, counted words, and what it gives, merges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jeton.learn.packed import PackedCounts


@dataclass(frozen=True)
class Words:
    """Distinct words as symbols, with counts.

    Attributes:
        symbols: One id per byte, of all words one after the other, shape (bytes,), int32; -1 never
            merges. A word that is one token has its id at both ends and -2 between them.
        ends: End of each word in `symbols`, shape (words,), int64.
        counts: Occurrences of each word, shape (words,), int64.
        num_tokens: Tokens of the text, by count.
    """

    symbols: NDArray[np.int32]
    ends: NDArray[np.int64]
    counts: NDArray[np.int64]
    num_tokens: int

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
        return cls.from_packed(PackedCounts.pack(dict(items)), byte_ids, whole)

    @classmethod
    def from_packed(
        cls,
        packed: PackedCounts,
        byte_ids: NDArray[np.int32],
        whole: Mapping[bytes, int] | None = None,
    ) -> "Words":
        """Return words of one symbol per byte, in the order of the counts."""
        data, ends, counts = packed.data, packed.ends, packed.values_array
        symbols = byte_ids[data]
        num_tokens = int(np.diff(ends, prepend=0) @ counts)
        if whole:
            text, start = data.tobytes(), 0
            for index, end in enumerate(ends.tolist()):
                token = whole.get(text[start:end]) if end > start else None
                if token is not None:
                    symbols[start:end] = -2
                    symbols[[start, end - 1]] = token
                    num_tokens -= (end - start - 1) * int(counts[index])
                start = end
        return cls(symbols, ends, counts, num_tokens)


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
