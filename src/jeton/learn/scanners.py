"""Compiled scanners for the pre-tokenizer patterns that most open models share.

A scanner cuts UTF-8 and counts the pieces in one pass. Imported only when numba is installed; the
`regex` package does the same work elsewhere, and tests hold the two against each other.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray

from jeton.learn.compiling import compiled

OTHER, LETTER, NUMBER, LINE_END, SPACE = 0, 1, 2, 3, 4
_GPT2 = 0  # any other style is the most digits in one piece


@cache
def character_classes() -> NDArray[np.uint8]:
    """Return the class of every code point, shape (0x110000,), uint8."""
    classes = np.zeros(0x110000, dtype=np.uint8)
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    for pattern, number in ((r"\p{L}+", LETTER), (r"\p{N}+", NUMBER), (r"\s+", SPACE)):
        for match in regex.finditer(pattern, every):
            first = ord(match.group()[0])
            # A run in `every` may step over the surrogates; none of these classes does.
            classes[first : first + len(match.group())] = number
    classes[[10, 13]] = LINE_END
    return classes


@compiled
def _width(first: Any) -> Any:
    """Return the bytes of a character by its first byte."""
    if first < 0x80:
        return 1
    if first < 0xE0:
        return 2
    return 3 if first < 0xF0 else 4


@compiled
def _class_at(data: Any, i: Any, end: Any, classes: Any) -> Any:
    """Return the class of the character at i; at the end, one that matches nothing."""
    if i >= end:
        return 255
    first = np.int64(data[i])
    if first < 0x80:
        return np.int64(classes[first])
    if first < 0xE0:
        return np.int64(classes[(first & 0x1F) << 6 | (data[i + 1] & 0x3F)])
    if first < 0xF0:
        code = (first & 0x0F) << 12 | (np.int64(data[i + 1]) & 0x3F) << 6 | (data[i + 2] & 0x3F)
        return np.int64(classes[code])
    code = (first & 0x07) << 18 | (np.int64(data[i + 1]) & 0x3F) << 12
    return np.int64(classes[code | (np.int64(data[i + 2]) & 0x3F) << 6 | (data[i + 3] & 0x3F)])


@compiled
def _skip(data: Any, i: Any, end: Any, classes: Any, wanted: Any, limit: Any) -> Any:
    """Return the end of the run of one class that starts at i, of at most `limit` characters."""
    n = 0
    while n < limit and i < end and _class_at(data, i, end, classes) == wanted:
        i += _width(data[i])
        n += 1
    return i


@compiled
def _contraction(data: Any, i: Any, end: Any, any_case: Any) -> Any:
    """Return the length of 's, 't, 're, 've, 'm, 'll or 'd after an apostrophe at i, else 0."""
    if i + 1 >= end:
        return 0
    case = 0x20 if any_case else 0
    one = data[i + 1] | case
    if one == 0x73 or one == 0x74 or one == 0x6D or one == 0x64:
        return 2
    if i + 2 >= end:
        return 0
    if any_case and data[i + 1] == 0xC5 and data[i + 2] == 0xBF:  # the long s folds to s
        return 3
    two = data[i + 2] | case
    is_re_or_ve = (one == 0x72 or one == 0x76) and two == 0x65
    return 3 if is_re_or_ve or (one == 0x6C and two == 0x6C) else 0


@compiled
def _spaces(data: Any, i: Any, end: Any, classes: Any, stops_at_line_end: Any) -> Any:
    r"""Return the end of `\s*[\r\n]+` if asked for and found, else of `\s+(?!\S)|\s+`."""
    j, last, after_line_end = i, i, -1
    while j < end:
        kind = _class_at(data, j, end, classes)
        if kind != SPACE and kind != LINE_END:
            break
        last = j
        j += _width(data[j])
        if kind == LINE_END:
            after_line_end = j
    if stops_at_line_end and after_line_end >= 0:
        return after_line_end
    return j if j == end or last == i else last


@compiled
def _piece_end(data: Any, i: Any, end: Any, classes: Any, style: Any) -> Any:
    """Return the end of the piece that starts at i."""
    kind = _class_at(data, i, end, classes)
    is_gpt2 = style == _GPT2
    if data[i] == 0x27:
        length = _contraction(data, i, end, not is_gpt2)
        if length > 0:
            return i + length
    after = i + _width(data[i])
    if is_gpt2:
        start = i
        if data[i] == 0x20:
            start, kind = after, _class_at(data, after, end, classes)
        if kind in (LETTER, NUMBER, OTHER):
            return _skip(data, start, end, classes, kind, end)
        return _spaces(data, i, end, classes, False)
    if kind == LETTER:
        return _skip(data, i, end, classes, LETTER, end)
    following = _class_at(data, after, end, classes)
    if kind in (OTHER, SPACE) and following == LETTER:
        return _skip(data, after, end, classes, LETTER, end)
    if kind == NUMBER:
        return _skip(data, i, end, classes, NUMBER, style)
    if kind == OTHER or (data[i] == 0x20 and following == OTHER):
        j = _skip(data, i if kind == OTHER else after, end, classes, OTHER, end)
        return _skip(data, j, end, classes, LINE_END, end)
    return _spaces(data, i, end, classes, True)


@compiled
def _count(
    data: Any, i: Any, end: Any, classes: Any, style: Any, table: Any, places: Any, lengths: Any,
    hashes: Any, counts: Any, size: Any,
) -> Any:  # fmt: skip
    """Count pieces from i to end; return where it stopped and how many distinct ones there are."""
    mask = len(table) - 1
    while i < end:
        if size >= len(places):
            return i, size
        j = _piece_end(data, i, end, classes, style)
        mixed = np.uint64(1469598103934665603)
        for k in range(i, j):
            mixed = (mixed ^ np.uint64(data[k])) * np.uint64(1099511628211)
        slot = np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(mask))
        while table[slot] >= 0:
            p = table[slot]
            if hashes[p] == mixed and lengths[p] == j - i:
                k = 0
                while k < j - i and data[places[p] + k] == data[i + k]:
                    k += 1
                if k == j - i:
                    break
            slot = (slot + 1) & mask
        p = table[slot]
        if p < 0:
            p = size
            table[slot] = p
            places[p], lengths[p], hashes[p], counts[p] = i, j - i, mixed, 0
            size += 1
        counts[p] += 1
        i = j
    return i, size


def scan(texts: Sequence[str], style: int) -> Counter[bytes]:
    """Return {piece: occurrences} of texts.

    Args:
        texts: Documents.
        style: 0 for the pattern of GPT-2, else the most digits in one piece of the word pattern.
    """
    parts = [text.encode("utf-8", errors="surrogatepass") for text in texts]
    data = np.frombuffer(b"".join(parts), dtype=np.uint8)
    classes = character_classes()
    room = 1 << 15
    table, keys = _room(room)
    size = start = 0
    for part in parts:
        end = start + len(part)
        while start < end:
            start, size = _count(data, start, end, classes, style, table, *keys, size)
            if size >= room:
                room *= 4
                table, keys = _grown(room, keys, size)
    return _collect(data, *(key[:size].tolist() for key in (keys[0], keys[1], keys[3])))


def _room(room: int) -> tuple[NDArray[np.int32], list[Any]]:
    keys = [np.zeros(room, dtype=t) for t in (np.int64, np.int64, np.uint64, np.int64)]
    return np.full(2 * room, -1, dtype=np.int32), keys


def _grown(room: int, old: Iterable[Any], size: int) -> tuple[NDArray[np.int32], list[Any]]:
    table, keys = _room(room)
    for key, before in zip(keys, old, strict=True):
        key[:size] = before[:size]
    _refill(table, keys[2], size)
    return table, keys


@compiled
def _refill(table: Any, hashes: Any, size: Any) -> None:
    """Fill an empty table."""
    mask = len(table) - 1
    for p in range(size):
        slot = np.int64((hashes[p] ^ (hashes[p] >> np.uint64(32))) & np.uint64(mask))
        while table[slot] >= 0:
            slot = (slot + 1) & mask
        table[slot] = p


def _collect(
    data: NDArray[np.uint8], places: list[int], lengths: list[int], counts: list[int]
) -> Counter[bytes]:
    whole = data.tobytes()
    return Counter(
        {
            whole[place : place + length]: count
            for place, length, count in zip(places, lengths, counts, strict=True)
        }
    )
