"""Counts of pieces as three arrays that read like a mapping."""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray


class PackedCounts(Mapping[bytes, int]):
    """{piece: occurrences}, without an object for each piece until one is asked for.

    Args:
        data: Bytes of all pieces one after the other, shape (bytes,), uint8.
        ends: End of each piece in `data`, shape (pieces,), int64.
        values_array: Occurrences of each piece, shape (pieces,), int64.
    """

    def __init__(
        self, data: NDArray[np.uint8], ends: NDArray[np.int64], values_array: NDArray[np.int64]
    ) -> None:
        self.data, self.ends, self.values_array = data, ends, values_array
        self._found: dict[bytes, int] | None = None

    @classmethod
    def pack(cls, counts: Mapping[bytes, int]) -> "PackedCounts":
        """Return any mapping in this form; one that has it already is returned as it is."""
        if isinstance(counts, PackedCounts):
            return counts
        lengths = np.fromiter(map(len, counts), dtype=np.int64, count=len(counts))
        values = np.fromiter(counts.values(), dtype=np.int64, count=len(counts))
        data = np.frombuffer(b"".join(counts), dtype=np.uint8)
        return cls(data, np.cumsum(lengths, dtype=np.int64), values)

    def in_byte_order(self) -> "PackedCounts":
        """Return the same counts with the pieces sorted."""
        return PackedCounts.pack(dict(sorted(self.items())))

    def _dict(self) -> dict[bytes, int]:
        if self._found is None:
            whole, start = self.data.tobytes(), 0
            found: dict[bytes, int] = {}
            for end, count in zip(self.ends.tolist(), self.values_array.tolist(), strict=True):
                found[whole[start:end]] = count
                start = end
            self._found = found
        return self._found

    def __getitem__(self, piece: bytes) -> int:
        return self._dict()[piece]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._dict())

    def __len__(self) -> int:
        return len(self.ends)

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return PackedCounts, (self.data, self.ends, self.values_array)
