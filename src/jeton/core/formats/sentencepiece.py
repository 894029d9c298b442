"""Reads SentencePiece .model files: a protobuf of pieces, scores, types and flags.

The few fields that matter are read by hand, so bytes need no extra package; encoding does
(`pip install jeton[sentencepiece]`).
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jeton.core.formats.pipeline import BYTE_FALLBACK
from jeton.core.formats.source import (
    MAX_ID,
    NO_MERGES,
    ModelKind,
    Parts,
    Source,
    StartRule,
    TokenKind,
    read_limited,
)
from jeton.errors import MissingExtraError, TokenizerError

_UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 2, 3, 4, 5, 6  # SentencePiece.Type
_MODEL_KINDS = {1: ModelKind.UNIGRAM, 2: ModelKind.SENTENCEPIECE_BPE, 3: ModelKind.WORD_LEVEL}
_NO_DUMMY_PREFIX = b"\x1a\x02\x18\x00"  # normalizer_spec { add_dummy_prefix: false }, merged last


@dataclass
class _Model:
    pieces: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    model_type: int = 1
    suffix_space: bool = False
    normalizer: str = ""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True


def looks_like_sentencepiece(head: bytes) -> bool:
    """Tell whether a file begins like a ModelProto: a piece message that begins with its text."""
    return len(head) > 4 and head[0] == 0x0A and 0x0A in head[2:4]


def read_sentencepiece(path: Path) -> Parts:
    """Return the parts of a vocabulary.

    Raises:
        TokenizerError: the file is cut off or no SentencePiece model.
    """
    return read_model_proto(read_limited(path), path.stem)


def read_model_proto(content: bytes, name: str) -> Parts:
    """Return the parts of a vocabulary given as a serialized ModelProto."""
    model = _parse(content, name)
    if model.model_type not in _MODEL_KINDS or model.suffix_space:
        raise TokenizerError(
            f"{name}: SentencePiece models of type char, or with spaces as suffixes, are not known",
            hint="unigram, bpe and word models with spaces in front are",
        )
    tokens, special, added = [], {}, {}
    kinds = np.full(len(model.pieces), TokenKind.TEXT, dtype=np.uint8)
    for token_id, (piece, kind) in enumerate(zip(model.pieces, model.types, strict=True)):
        text = piece.replace("▁", " ") if model.escape_whitespaces else piece
        token = text.encode()
        if kind == _BYTE:
            match = BYTE_FALLBACK.fullmatch(piece)
            if match is None:
                raise TokenizerError(f"{name}: byte piece {token_id} is {piece!r}, not <0xNN>")
            token = bytes([int(match[1], 16)])
            kinds[token_id] = TokenKind.BYTE
        elif kind in (_UNKNOWN, _CONTROL):
            special[piece] = token_id
            kinds[token_id], token = TokenKind.SPECIAL, b""
        elif kind == _USER_DEFINED:
            added[piece] = token_id
            kinds[token_id] = TokenKind.ADDED
        elif kind == _UNUSED:
            kinds[token_id], token = TokenKind.UNUSED, b""
        tokens.append(token)
    has_prefix = model.add_dummy_prefix
    return Parts(
        name=name,
        tokens=tokens,
        kinds=kinds,
        special_tokens=special,
        added_tokens=added,
        model_kind=_MODEL_KINDS[model.model_type],
        start_rule=StartRule.DUMMY_SPACE_ALWAYS if has_prefix else StartRule.NONE,
        normalizer=_normalizer_in_words(model),
        unk_token_id=model.types.index(_UNKNOWN) if _UNKNOWN in model.types else None,
        source=SentencePieceSource(content, model, name),
    )


def _normalizer_in_words(model: _Model) -> str | None:
    words = [] if model.normalizer in ("", "identity") else [model.normalizer]
    if model.remove_extra_whitespaces:
        words.append("collapse spaces")
    return " + ".join(words) or None


def _parse(content: bytes, name: str) -> _Model:
    model = _Model()
    try:
        for number, value in _fields(content):
            if number == 1 and isinstance(value, bytes):
                _parse_piece(value, model)
            elif number == 2 and isinstance(value, bytes):
                for key, setting in _fields(value):
                    if key == 3 and isinstance(setting, int):
                        model.model_type = setting
                    elif key == 24:
                        model.suffix_space = bool(setting)
            elif number == 3 and isinstance(value, bytes):
                _parse_normalizer(value, model)
    except (IndexError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise TokenizerError(
            f"{name} is not a whole SentencePiece model: {error}",
            hint="the file is damaged; fetch it again",
        ) from error
    if not 0 < len(model.pieces) <= MAX_ID:
        raise TokenizerError(f"{name} is not a SentencePiece model: {len(model.pieces)} pieces")
    return model


def _parse_piece(data: bytes, model: _Model) -> None:
    piece, score, kind = "", 0.0, 1
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            piece = value.decode()
        elif number == 2 and isinstance(value, bytes):
            score = struct.unpack("<f", value)[0]
        elif number == 3 and isinstance(value, int):
            kind = value
    model.pieces.append(piece)
    model.scores.append(score)
    model.types.append(kind)


def _parse_normalizer(data: bytes, model: _Model) -> None:
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            model.normalizer = value.decode()
        elif number == 3:
            model.add_dummy_prefix = bool(value)
        elif number == 4:
            model.remove_extra_whitespaces = bool(value)
        elif number == 5:
            model.escape_whitespaces = bool(value)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield field number and value: int of a varint, bytes of everything else."""
    i, end = 0, len(data)
    while i < end:
        key, i = _varint(data, i)
        wire = key & 7
        if wire == 0:
            value, i = _varint(data, i)
            yield key >> 3, value
            continue
        if wire == 2:
            length, i = _varint(data, i)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {i}")
        if i + length > end:
            raise ValueError(f"a field of {length} bytes at byte {i} runs over the end")
        yield key >> 3, data[i : i + length]
        i += length


def _varint(data: bytes, i: int) -> tuple[int, int]:
    value = data[i]
    i += 1
    if value < 0x80:
        return value, i
    value &= 0x7F
    for shift in range(7, 70, 7):
        byte = data[i]
        i += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, i
    raise ValueError(f"a number at byte {i} does not end")


class SentencePieceSource(Source):
    """The `sentencepiece` package as the engine; control pieces are never matched in text."""

    def __init__(self, content: bytes, model: _Model, name: str) -> None:
        self._content = content
        self._model = model
        self._name = name

    @cached_property
    def _engine(self) -> Any:
        return self._load(self._content)

    @cached_property
    def _inner_engine(self) -> Any:
        return self._load(self._content + _NO_DUMMY_PREFIX)

    def _load(self, content: bytes) -> Any:
        try:
            from sentencepiece import SentencePieceProcessor
        except ImportError as error:
            raise MissingExtraError(
                "encoding with a SentencePiece .model needs the package sentencepiece",
                hint="pip install 'jeton[sentencepiece]', or use the tokenizer.json of the model",
            ) from error
        try:
            return SentencePieceProcessor(model_proto=content)
        except (RuntimeError, OSError) as error:
            raise TokenizerError(
                f"{self._name}: sentencepiece refuses this file: {error}",
                hint="the file is damaged; fetch it again",
            ) from error

    def encode(self, text: str, *, is_start: bool = True) -> list[int]:
        """Return the ids of a text; without its start rule where `is_start` is false."""
        engine = self._engine if is_start else self._inner_engine
        ids: list[int] = engine.encode(text, out_type=int)
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of many texts."""
        ids: list[list[int]] = self._engine.encode(list(texts), out_type=int)
        return ids

    def normalizer_that_changes(self, text: str) -> str | None:
        """Return the normalizer's name when it alters the text."""
        normalized: str = self._inner_engine.normalize(text)
        if self._model.escape_whitespaces:
            normalized = normalized.replace("▁", " ")
        if normalized == text.replace("▁", " "):
            return None
        return _normalizer_in_words(self._model)

    def merges(self) -> npt.NDArray[np.int64]:
        """Return left id, right id and result id of each merge, by falling score of the result.

        One piece can be built by several merges; all of them have its rank.
        """
        model = self._model
        if _MODEL_KINDS[model.model_type] is not ModelKind.SENTENCEPIECE_BPE:
            return NO_MERGES
        ids = {
            piece: i
            for i, (piece, kind) in enumerate(zip(model.pieces, model.types, strict=True))
            if kind == 1
        }
        rows = [
            (ids[piece[:cut]], ids[piece[cut:]], token_id)
            for piece, token_id in sorted(
                ids.items(), key=lambda item: (-model.scores[item[1]], item[1])
            )
            for cut in range(1, len(piece))
            if piece[:cut] in ids and piece[cut:] in ids
        ]
        return np.array(rows, dtype=np.int64).reshape(-1, 3)
