"""One text cut by several tokenizers: where its lines break and which piece of a token is where."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from jeton.report.format import printable

_MARKS = {" ": "·", "\t": "→", "\n": "⏎"}
MOST_SHADED = 8  # a byte that is one of 256 costs as many bits
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of a token that stands on one line.

    Attributes:
        token_index: Which token it belongs to.
        is_start: Whether the token begins here (else it goes on from the line above).
        runs: Pairs of a text and whether it stands for white space or for raw bytes.
    """

    token_index: int
    is_start: bool
    runs: tuple[tuple[str, bool], ...]


def cut_rows(
    rows: Sequence[tuple[str, Sequence[bytes]]], width: int
) -> Iterator[list[tuple[int, list[Piece]]]]:
    """Yield the lines of a token strip, each with the rows that stand in it.

    Rows of the same text share their lines, so that one line holds a row from each tokenizer;
    rows of different texts follow one another.

    Args:
        rows: Labels and tokens of a `TokenStrip`.
        width: Columns after which a line is broken.
    Yields:
        For each line, pairs of the row's index and its pieces.
    """
    texts = [b"".join(tokens) for _, tokens in rows]
    cuts = [frozenset(accumulate(map(len, tokens))) for _, tokens in rows]
    if len(set(texts)) == 1:
        ends = break_lines(texts[0], width, frozenset().union(*cuts))
        cut = [cut_tokens(tokens, ends) for _, tokens in rows]
        for pieces in zip(*cut, strict=True):
            yield list(enumerate(pieces))
        return
    for index, (_, tokens) in enumerate(rows):
        for line in cut_tokens(tokens, break_lines(texts[index], width, cuts[index])):
            yield [(index, line)]


def break_lines(data: bytes, width: int, cuts: frozenset[int] = frozenset()) -> list[int]:
    """Return the byte offsets at which lines end: after newlines, and before a line is too long.

    A long line breaks after a space where its last third has one, never inside a character.

    Args:
        data: The text.
        width: Columns after which a line is broken.
        cuts: Offsets at which tokens end; a character with a cut inside is shown as raw bytes.
    """
    ends: list[int] = []
    for match in _LINE.finditer(data):
        offset = line_start = after_space = match.start()
        columns = columns_after_space = 0
        for char in _decode(match.group()):
            size = len(char.encode("utf-8", errors="surrogateescape"))
            is_cut = any(offset + i in cuts for i in range(1, size))
            shown = 4 * size if is_cut else _columns(char)
            if columns + shown > width and offset > line_start:
                is_late = after_space - line_start > 2 * (offset - line_start) // 3
                columns = columns - columns_after_space if is_late else 0
                line_start = after_space if is_late else offset
                ends.append(line_start)
            columns += shown
            offset += size
            if char == " ":
                after_space, columns_after_space = offset, columns
        ends.append(match.end())
    return ends


def cut_tokens(tokens: Sequence[bytes], ends: Sequence[int]) -> list[list[Piece]]:
    """Return the pieces of each line, for lines that end at the given byte offsets."""
    lines: list[list[Piece]] = [[] for _ in ends]
    offset = line_index = 0
    for token_index, token in enumerate(tokens):
        rest = token
        while rest:
            room = ends[line_index] - offset
            part, rest = rest[:room], rest[room:]
            is_start = len(part) + len(rest) == len(token)
            lines[line_index].append(Piece(token_index, is_start, show_bytes(part)))
            offset += len(part)
            line_index += offset == ends[line_index]
    return lines


def show_bytes(data: bytes) -> tuple[tuple[str, bool], ...]:
    """Return bytes as text runs; white space as marks, bytes that are not UTF-8 as `<xx>`.

    Example:
        >>> show_bytes(b" a\\xff")
        (('·', True), ('a', False), ('<ff>', True))
    """
    runs: list[tuple[str, bool]] = []
    for char in _decode(data):
        is_raw = "\udc80" <= char <= "\udcff"
        shown = f"<{ord(char) - 0xDC00:02x}>" if is_raw else _MARKS.get(char) or printable(char)
        is_mark = shown != char
        if runs and runs[-1][1] == is_mark:
            runs[-1] = (runs[-1][0] + shown, is_mark)
        else:
            runs.append((shown, is_mark))
    return tuple(runs)


def shade(data: bytes, values: Sequence[float], width: int) -> Iterator[list[tuple[str, int]]]:
    """Yield the lines of a shaded text as pairs of a character as shown and its shade, 0 to 8.

    Example:
        >>> list(shade(b"a b", [0.2, 3.9, 99.0], 80))
        [[('a', 0), ('·', 3), ('b', 8)]]
    """
    start = 0
    for end in break_lines(data, width):
        line = []
        for char in _decode(data[start:end]):
            size = len(char.encode("utf-8", errors="surrogateescape"))
            total = sum(values[start : start + size])
            level = MOST_SHADED if total >= MOST_SHADED else max(0, int(total))
            raw = char.encode("utf-8", errors="surrogateescape")
            line.append(("".join(text for text, _ in show_bytes(raw)), level))
            start += size
        yield line


def _decode(data: bytes) -> str:
    """Return the text, with one lone surrogate for each byte that is not UTF-8."""
    return data.decode("utf-8", errors="surrogateescape")


def _columns(char: str) -> int:
    """Return how many columns of a terminal a character takes as shown."""
    if "\udc80" <= char <= "\udcff":
        return 4
    if char == "\n" or unicodedata.combining(char):
        return 0  # a newline alone never starts a line of its own
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
