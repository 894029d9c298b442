"""Compiled scanners for the pre-tokenizer patterns that most open models share.

A scanner cuts UTF-8 and counts the pieces in one pass. Imported only when numba is installed; the
`regex` package does the same work elsewhere, and tests hold the two against each other.
"""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

from jeton.core.compiling import compiled, inlined
from jeton.learn.piece_table import PieceTable

OTHER, LETTER, NUMBER, LINE_END, SPACE = 0, 1, 2, 3, 4
# Large blocks of letters that are in every table: CJK, Hangul, CJK extensions A and B.
_LONG_KNOWN = ((0x3400, 0x4DB6), (0x4E00, 0x9FA6), (0xAC00, 0xD7A4), (0x20000, 0x2A6D7))
_PIECES_AT_ONCE = 1 << 15  # stays in the cache between cutting and counting
_FROM_RIGHT, _LONGEST_NUMBER, _ACROSS = 100, 514, 200
_GPT2 = 0  # any other style is the most digits in one piece, 100 more from the right


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
        _drop_unknown(classes, pattern, number)
    classes[[10, 13]] = LINE_END
    return classes


def _drop_unknown(classes: NDArray[np.uint8], pattern: str, number: int) -> None:
    """Take back a class where the tables of `tokenizers`, which will encode, do not have it yet."""
    points = np.flatnonzero(classes == number)
    for first, end in _LONG_KNOWN:
        points = points[(points < first) | (points >= end)]
    known = Split(Regex(pattern), "removed", invert=True).pre_tokenize_str(
        "".join(map(chr, points))
    )
    kept = np.array([ord(character) for piece, _ in known for character in piece], dtype=np.int64)
    classes[np.setdiff1d(points, kept)] = OTHER


@inlined
def _width(first: Any) -> Any:
    """Return the bytes of a character by its first byte."""
    if first < 0x80:
        return 1
    if first < 0xE0:
        return 2
    return 3 if first < 0xF0 else 4


@inlined
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


@inlined
def _skip(data: Any, i: Any, end: Any, classes: Any, wanted: Any, limit: Any) -> Any:
    """Return the end of the run of one class that starts at i, of at most `limit` characters."""
    n = 0
    while n < limit and i < end:
        first = data[i]
        if first < 0x80:  # most text: one byte, one look-up
            if classes[first] != wanted:
                break
            i += 1
        elif _class_at(data, i, end, classes) == wanted:
            i += _width(first)
        else:
            break
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


@inlined
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
        limit = style
        if style > _FROM_RIGHT:
            limit, number, j = style - _FROM_RIGHT, 0, i
            while number < _LONGEST_NUMBER and _class_at(data, j, end, classes) == NUMBER:
                j += _width(data[j])
                number += 1
            if number < _LONGEST_NUMBER:
                limit = (number - 1) % limit + 1
        return _skip(data, i, end, classes, NUMBER, limit)
    if kind == OTHER or (data[i] == 0x20 and following == OTHER):
        j = _skip(data, i if kind == OTHER else after, end, classes, OTHER, end)
        return _skip(data, j, end, classes, LINE_END, end)
    return _spaces(data, i, end, classes, True)


@compiled
def _match_across(data: Any, i: Any, end: Any, classes: Any) -> Any:
    """Return the end of the match of the pattern across words at i; i where there is none."""
    kind = _class_at(data, i, end, classes)
    if kind == NUMBER:
        return _skip(data, i, end, classes, NUMBER, 3)
    start = i + 1 if data[i] == 0x20 else i
    if start < end and _class_at(data, start, end, classes) == OTHER:
        second = start + _width(data[start])
        if _class_at(data, second, end, classes) == OTHER:
            j = _skip(data, second, end, classes, OTHER, end)
            while j < end and (data[j] == 0x0A or data[j] == 0x0D or data[j] == 0x2F):
                j += 1
            return j
    if data[i] != 0x20:
        return i
    j = i
    while j < end and data[j] == 0x20:
        j += 1
    after = _class_at(data, j, end, classes)
    return j if j == end or after in (SPACE, LINE_END) else j - 1


@compiled
def _cut_across(data: Any, i: Any, end: Any, classes: Any, ends: Any) -> Any:
    """Like `_cut`, for the pattern across words; what lies between two matches is a piece."""
    number = 0
    while i < end and number + 1 < len(ends):
        j = i
        stop = i
        while j < end:
            first = data[j]
            if first < 0x80 and classes[first] == LETTER:
                j += 1
                continue
            stop = _match_across(data, j, end, classes)
            if stop > j:
                break
            j += _width(first)
        if j > i:
            ends[number] = j
            number += 1
        if j < end:
            ends[number] = stop
            number += 1
            j = stop
        i = j
    return i, number


@compiled
def _cut(data: Any, i: Any, end: Any, classes: Any, style: Any, ends: Any) -> Any:
    """Write the ends of the pieces from i on; return where it stopped and how many there are."""
    number = 0
    is_gpt2 = style == _GPT2
    while i < end and number < len(ends):
        # Most pieces are ASCII letters, most of them after one mark; any other takes the long way.
        first, start, j = data[i], -1, i
        if first < 0x80 and first != 0x27 and i + 1 < end:
            kind = classes[first]
            if kind == LETTER:
                start = i + 1
            elif (
                (first == 0x20 or (not is_gpt2 and kind in (OTHER, SPACE)))
                and data[i + 1] < 0x80
                and classes[data[i + 1]] == LETTER
            ):
                start = i + 2
        if start > 0:
            j = start
            while j < end and data[j] < 0x80 and classes[data[j]] == LETTER:
                j += 1
            if j < end and data[j] >= 0x80:
                j = i
        if j == i:
            j = _piece_end(data, i, end, classes, style)
        ends[number] = j
        number += 1
        i = j
    return i, number


def scan_into(table: PieceTable, texts: Sequence[str], style: int) -> int:
    """Count the pieces of texts and return the size of the texts in UTF-8.

    Args:
        table: Where to count.
        texts: Documents.
        style: See `Pretokenizer.scanner_style`.
    """
    classes, total = character_classes(), 0
    ends = np.zeros(_PIECES_AT_ONCE, dtype=np.int64)
    for text in texts:
        data = np.frombuffer(text.encode("utf-8", errors="surrogatepass"), dtype=np.uint8)
        total += len(data)
        while len(data):
            # A piece's end depends on nothing before it.
            if style == _ACROSS:
                stop, number = _cut_across(data, 0, len(data), classes, ends)
            else:
                stop, number = _cut(data, 0, len(data), classes, style, ends)
            table.add_cut(data, ends, number)
            data = data[stop:]
    return total


def scan(texts: Sequence[str], style: int) -> Counter[bytes]:
    """Return {piece: occurrences} of texts; see `scan_into`."""
    table = PieceTable()
    scan_into(table, texts, style)
    return Counter(dict(table.packed().items()))
