"""A hash table of pieces and their counts that holds no Python objects.

Imported only when numba is installed.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jeton.core.compiling import compiled
from jeton.learn.packed import PackedCounts

_FIRST_PIECES, _FIRST_BYTES = 1 << 14, 1 << 18
_ONE = np.ones(1, dtype=np.int64)


@compiled
def _add_pieces(
    data: Any, ends: Any, first: Any, number: Any, counts: Any, stride: Any, slots: Any, marks: Any,
    records: Any, arena: Any, sizes: Any,
) -> Any:  # fmt: skip
    """Add the pieces that end at ends[first:number]; return where it stopped for want of room.

    One loop on purpose: a call per piece that passes arrays takes longer than the work itself.
    """
    mask = len(slots) - 1
    pieces = sizes[0]
    used = sizes[1]
    start = ends[first - 1] if first > 0 else 0
    while first < number:
        end = ends[first]
        length = end - start
        mixed = np.uint64(1469598103934665603)
        for k in range(start, end):
            mixed = (mixed ^ np.uint64(data[k])) * np.uint64(1099511628211)
        mixed ^= mixed >> np.uint64(32)
        mark = np.int64(mixed & np.uint64(0x7FFFFFFFFFFFFFFF))
        slot = mark & mask
        while True:
            p = slots[slot]
            if p < 0:
                break
            if marks[slot] == mark and records[3 * p + 1] == length:
                place = records[3 * p]
                k = 0
                while k < length and arena[place + k] == data[start + k]:
                    k += 1
                if k == length:
                    break
            slot = (slot + 1) & mask
        if p < 0:
            if 3 * pieces >= len(records) or used + length > len(arena):
                break
            p = pieces
            slots[slot] = p
            marks[slot] = mark
            records[3 * p] = used
            records[3 * p + 1] = length
            for k in range(length):
                arena[used + k] = data[start + k]
            pieces += 1
            used += length
        records[3 * p + 2] += counts[first * stride]
        start = end
        first += 1
    sizes[0] = pieces
    sizes[1] = used
    return first


@compiled
def _refill(slots: Any, marks: Any, old_slots: Any, old_marks: Any) -> None:
    """Fill an empty table from a smaller one."""
    mask = len(slots) - 1
    for old in range(len(old_slots)):
        if old_slots[old] >= 0:
            slot = old_marks[old] & mask
            while slots[slot] >= 0:
                slot = (slot + 1) & mask
            slots[slot] = old_slots[old]
            marks[slot] = old_marks[old]


class PieceTable:
    """Counts of pieces, open for more."""

    def __init__(self) -> None:
        self._slots: NDArray[np.int64] = np.full(2 * _FIRST_PIECES, -1)
        self._marks: NDArray[np.int64] = np.zeros(2 * _FIRST_PIECES, dtype=np.int64)
        # Place in the arena, length and count of each piece.
        self._records: NDArray[np.int64] = np.zeros(3 * _FIRST_PIECES, dtype=np.int64)
        self._arena: NDArray[np.uint8] = np.zeros(_FIRST_BYTES, dtype=np.uint8)
        self._sizes: NDArray[np.int64] = np.zeros(2, dtype=np.int64)  # pieces, bytes

    def __len__(self) -> int:
        return int(self._sizes[0])

    def add_cut(
        self,
        data: NDArray[np.uint8],
        ends: NDArray[np.int64],
        number: int,
        counts: NDArray[np.int64] | None = None,
    ) -> None:
        """Count pieces that lie one after the other.

        Args:
            data: Bytes of the pieces, shape (bytes,), uint8.
            ends: End of each piece, shape (pieces,) or longer, int64.
            number: How many of the ends are meant.
            counts: How often each piece occurs, shape (pieces,), int64; once without.
        """
        values, stride = (_ONE, 0) if counts is None else (counts, 1)
        done = 0
        while True:
            done = _add_pieces(
                *(data, ends, done, number, values, stride, self._slots, self._marks),
                *(self._records, self._arena, self._sizes),
            )
            if done >= number:
                return
            self._grow(len(data))

    def add(self, packed: PackedCounts) -> None:
        """Add counts made elsewhere."""
        self.add_cut(packed.data, packed.ends, len(packed), packed.values_array)

    def _grow(self, num_bytes: int) -> None:
        """Make room for more pieces, or for the bytes of one piece of a text of `num_bytes`."""
        number, used = (int(size) for size in self._sizes)
        if 3 * number >= len(self._records):
            self._records = np.concatenate([self._records, np.zeros_like(self._records)])
            slots, marks = self._slots, self._marks
            self._slots = np.full(2 * len(slots), -1)
            self._marks = np.zeros(2 * len(marks), dtype=np.int64)
            _refill(self._slots, self._marks, slots, marks)
        else:  # memory that is never written is never taken
            arena = np.zeros(max(2 * len(self._arena), used + num_bytes), dtype=np.uint8)
            arena[:used] = self._arena[:used]
            self._arena = arena

    def packed(self) -> PackedCounts:
        """Return the counts in the order in which the pieces were first seen."""
        number, used = (int(size) for size in self._sizes)
        records = self._records[: 3 * number].reshape(-1, 3)
        return PackedCounts(
            self._arena[:used].copy(), (records[:, 0] + records[:, 1]).copy(), records[:, 2].copy()
        )
