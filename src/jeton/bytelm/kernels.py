"""The two hot loops: narrowing ranges of tokens along a text, and sums over such ranges."""

from typing import Any

import numpy as np

from jeton.core.compiling import compiled


@compiled
def narrow(buffer: Any, starts: Any, low: Any, high: Any, depth: Any, byte: Any) -> Any:
    """Narrow a range of tokens longer than `depth` with equal first bytes by the next byte."""
    a, b = low, high
    while a < b:
        middle = (a + b) >> 1
        if buffer[starts[middle] + depth] < byte:
            a = middle + 1
        else:
            b = middle
    first, b = a, high
    while a < b:
        middle = (a + b) >> 1
        if buffer[starts[middle] + depth] <= byte:
            a = middle + 1
        else:
            b = middle
    return first, a


@compiled
def text_ranges(data: Any, buffer: Any, starts: Any, lengths: Any, heads: Any) -> Any:
    """Return, for each place of a text, the tokens that agree with the text behind it.

    Args:
        data: The text, shape (bytes,), uint8.
        buffer: The bytes of all tokens in order, uint8.
        starts: Where each token's bytes begin.
        lengths: Bytes of each token.
        heads: Where the tokens begin that start with each byte, shape (257,).
    Returns:
        Per place the number of its first row, shape (bytes + 1,), and per row (one for each depth)
        low, first longer, high: tokens low:longer are equal to the text's next depth bytes, those
        in longer:high go on.
    """
    size = len(data)
    offsets = np.zeros(size + 1, dtype=np.int64)
    rows = np.empty((max(16, 8 * size), 3), dtype=np.int64)
    used = 0
    for place in range(size):
        offsets[place] = used
        low, high = heads[data[place]], heads[data[place] + 1]
        depth = 1
        while low < high:
            longer = low
            while longer < high and lengths[longer] == depth:
                longer += 1
            if used == len(rows):
                more = np.empty((2 * len(rows), 3), dtype=np.int64)
                more[:used] = rows
                rows = more
            rows[used, 0], rows[used, 1], rows[used, 2] = low, longer, high
            used += 1
            if longer == high or place + depth >= size:
                break
            low, high = narrow(buffer, starts, longer, high, depth, data[place + depth])
            depth += 1
    offsets[size] = used
    return offsets, rows[:used]


@compiled
def range_sums(values: Any, ids: Any, rows: Any, lows: Any, highs: Any) -> Any:
    """Return the sums of values over ranges of tokens, in float64.

    Args:
        values: Shape (rows, vocab_size).
        ids: Token ids in order of bytes, shape (tokens,).
        rows: The row of each range.
        lows: Its first place in the order of bytes.
        highs: The place behind its last one.
    """
    sums = np.zeros(len(rows), dtype=np.float64)
    for i in range(len(rows)):
        total = 0.0
        row = values[rows[i]]
        for place in range(lows[i], highs[i]):
            total += row[ids[place]]
        sums[i] = total
    return sums
