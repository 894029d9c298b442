"""Reads the RWKV World vocabulary: lines of id, Python literal and length in bytes."""

import ast
import re
from functools import cached_property
from pathlib import Path

import numpy as np

from jeton.core.encode import LongestMatch
from jeton.core.formats.source import (
    ModelKind,
    Parts,
    Source,
    StartRule,
    TokenKind,
    check_id,
    place_by_id,
    read_limited,
)
from jeton.errors import TokenizerError

_LINE = re.compile(r"(\d{1,9}) (b?['\"].*['\"]) (\d{1,9})")
_END_OF_TEXT = "<|endoftext|>"  # id 0 is not in the file; RWKV trains with it between documents


def looks_like_rwkv(head: bytes) -> bool:
    """Tell whether a file's first line is id, literal and length."""
    first = head.split(b"\n", 1)[0].decode("utf-8", "replace").rstrip("\r")
    return _LINE.fullmatch(first) is not None


def read_rwkv(path: Path) -> Parts:
    """Return the parts of a vocabulary.

    Raises:
        TokenizerError: a line is not id, literal and length, or the length is wrong.
    """
    ids: dict[int, bytes] = {}
    try:
        lines = read_limited(path).decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{path} is not UTF-8: {error}") from error
    for number, line in enumerate(lines, 1):
        if line:
            token_id, token = _parse_line(line.rstrip("\r"), f"{path}: line {number}")
            if token_id in ids:
                raise TokenizerError(f"{path}: line {number} gives id {token_id} a second time")
            ids[token_id] = token
    by_id = place_by_id({i: i for i in ids}, str(path))
    tokens = [b"" if i is None else ids[i] for i in by_id]
    kinds = np.full(len(tokens), TokenKind.TEXT, dtype=np.uint8)
    kinds[[i for i, token in enumerate(tokens) if len(token) == 1]] = TokenKind.BYTE
    kinds[[i for i, token in enumerate(tokens) if not token]] = TokenKind.UNUSED
    special = {}
    if tokens and not tokens[0]:
        special[_END_OF_TEXT] = 0
        kinds[0] = TokenKind.SPECIAL
    return Parts(
        name=path.stem,
        tokens=tokens,
        kinds=kinds,
        special_tokens=special,
        added_tokens={},
        model_kind=ModelKind.LONGEST_MATCH,
        start_rule=StartRule.NONE,
        normalizer=None,
        unk_token_id=None,
        source=RwkvSource(tokens),
    )


def _parse_line(line: str, where: str) -> tuple[int, bytes]:
    match = _LINE.fullmatch(line)
    try:
        if match is None:
            raise ValueError("it is not id, literal and length")
        value = ast.literal_eval(match[2])
        token = value.encode() if isinstance(value, str) else value
        if not isinstance(token, bytes) or len(token) != int(match[3]):
            raise ValueError(f"the literal is not {match[3]} bytes long")
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise TokenizerError(
            f"{where}: {ascii(line)[:60]}: {error}", hint="the file is damaged; fetch it again"
        ) from error
    return check_id(int(match[1]), token, where), token


class RwkvSource(Source):
    """Longest match over raw bytes; text has no pretokens and no invalid UTF-8."""

    takes_bytes = True

    def __init__(self, tokens: list[bytes]) -> None:
        self._tokens = tokens

    @cached_property
    def _matcher(self) -> LongestMatch:
        return LongestMatch(self._tokens)

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return the ids of any bytes."""
        return self._matcher.encode(data)

    def encode(self, text: str, *, is_start: bool = True) -> list[int]:
        """Return the ids of a text."""
        return self._matcher.encode(text.encode())
