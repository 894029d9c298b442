"""Texts that may bring out a token: the token between neighbours of many kinds."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain, product

import regex

_NEIGHBOURS = (
    ("", ""),
    ("a", ""),
    (" ", ""),
    ("", "a"),
    ("\n", ""),
    ("a", "a"),
    ("1", ""),
    ("", "\n"),
    (".", "."),
    (" ", " "),
    ("", " a"),
    ("  ", "  "),
    ("x", "\n\n"),
    ("é", "é"),
    ("(", ")"),
    ("文", "文"),
    ("", "s"),
    ("\t", ""),
    ("-", "-"),
    ("_", "1"),
    ("A", "A"),
    ("\r\n", "\r\n"),
    ("'", "'"),
    ("字", "a"),
)
_COMPLETIONS_PER_ROUND = 8
ROUNDS = 48
_CONTINUATION = range(0x80, 0xC0)


def contexts(token: bytes, index: int) -> list[str]:
    """Return texts around a token, others in each of the `ROUNDS` rounds."""
    if is_utf8(token):
        text = token.decode()
        if index < len(_NEIGHBOURS):
            before, after = _NEIGHBOURS[index]
            return [before + text + after]
        if index == len(_NEIGHBOURS):
            return [text[0] + text, text + text[-1], text + text, text.lstrip(" "), f"a {text}"]
        letter = "bcdefghijklmnopqrstuvwz"[index % 23]
        return [letter + text, text + letter]
    before, after = _NEIGHBOURS[index % len(_NEIGHBOURS)]
    start = index * _COMPLETIONS_PER_ROUND
    return [before + text + after for text in completions(token, start, _COMPLETIONS_PER_ROUND)]


@cache
def all_characters() -> tuple[str, ...]:
    """Return the assigned characters that UTF-8 writes in more than one byte."""
    ranges = (range(0x80, 0xD800), range(0xE000, 0x18000), range(0x1A000, 0x1B400))
    every = "".join(map(chr, chain(*ranges, range(0x1BC00, 0x20100))))
    return tuple(regex.findall(r"[^\p{Cn}\p{Co}]", every))


def can_occur_in_text(token: bytes) -> bool:
    """Return whether bytes can stand inside UTF-8 text.

    Example:
        >>> [can_occur_in_text(bytes(data)) for data in ([0x61], [0x80, 0xE2], [0xFF])]
        [True, True, False]
    """
    return any(True for _ in completions(token, 0, 1))


def completions(token: bytes, start: int, count: int) -> Iterator[str]:
    """Yield texts that contain the bytes, with the characters cut at its ends completed.

    Args:
        token: Any bytes.
        start: Skip so many; the order is fixed and mixes near and far characters.
        count: Yield at most so many.
    """
    if is_utf8(token):
        if start == 0 and count:
            yield token.decode()
        return
    num_leading = next((i for i, b in enumerate(token) if not 0x80 <= b < 0xC0), len(token))
    if num_leading > 3:
        return
    if num_leading == len(token):
        pairs = _around(token)
    else:
        heads, tails = _heads(num_leading), _tails(token)
        pairs = product(heads, tails) if len(heads) == 1 else _diagonal(heads, tails)
    seen = 0
    for head, tail in pairs:
        data = head + token + tail
        if is_utf8(data):
            if seen >= start:
                yield data.decode()
            seen += 1
            if seen == start + count:
                return


def _heads(num_leading: int) -> list[bytes]:
    """Return beginnings of characters that so many continuation bytes complete."""
    if num_leading == 0:
        return [b""]
    return [head for size in (2, 3, 4) for head in _heads_of(size, size - num_leading)]


def _heads_of(size: int, length: int) -> list[bytes]:
    """Return beginnings of that length of characters of `size` bytes, of common blocks first."""
    if not 1 <= length < size:
        return []
    leads = {2: range(0xC2, 0xE0), 3: range(0xE0, 0xF0), 4: range(0xF0, 0xF5)}[size]
    middles: list[bytes] = [b""]
    if length > 1:
        middles = [bytes([b]) + b"\x98" * (length - 2) for b in (0x9F, *_CONTINUATION)]
    return [bytes([lead]) + middle for middle in middles for lead in leads]


def _around(token: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield heads and tails of characters with these continuation bytes anywhere inside."""
    for size in (2, 3, 4):
        for place in range(1, size - len(token) + 1):
            num_after = size - place - len(token)
            tails = [bytes([b]) + b"\x80" * (num_after - 1) for b in (0x80, 0x95, 0xA5, 0xBF)]
            for head in _heads_of(size, place):
                for tail in tails if num_after else [b""]:
                    yield head, tail


def _tails(token: bytes) -> list[bytes]:
    """Return continuation bytes that complete the last character."""
    for back in range(1, min(3, len(token)) + 1):
        byte = token[-back]
        if byte >= 0xC0:
            size = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            missing = size - back
            if missing < 1:
                return [b""]
            firsts = [bytes([b]) for b in _CONTINUATION]
            if missing == 1:
                return firsts
            rests = (b"\x80", b"\x95", b"\xa5", b"\xbf")
            return [f + r + b"\x80" * (missing - 2) for r in rests for f in firsts]
    return [b""]


def _diagonal(heads: Sequence[bytes], tails: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield each head once with some tail, then again with others."""
    for turn in range(min(len(tails), 8)):
        for i, head in enumerate(heads):
            yield head, tails[(i + turn) % len(tails)]


def is_utf8(data: bytes) -> bool:
    """Return whether bytes are whole UTF-8 text."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
