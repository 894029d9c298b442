"""What a reader of a tokenizer file hands to `Vocabulary`: words for its kind, bytes, an engine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jeton.errors import TokenizerError

MAX_ID = 16_000_000  # no published vocabulary comes near; larger ids are damage or an attack
MAX_FILE_BYTES = 512 * 1024 * 1024  # the largest published tokenizer.json is about 40 MB
_HOLES_ALLOWED = 1_000_000  # ids beyond the number of tokens: padding and reserved ranges

NO_MERGES: npt.NDArray[np.int64] = np.zeros((0, 3), dtype=np.int64)


class TokenKind(IntEnum):
    """What an id stands for.

    `BYTE` is a token of the byte alphabet: `<0x0A>` of SentencePiece, and every one-byte token of
    a vocabulary that works on bytes (byte-level BPE, tiktoken, RWKV). A vocabulary that has all
    256 of them can write any bytes. `UNUSED` ids are holes and padding: no token, no bytes.
    """

    TEXT = 0
    BYTE = 1
    SPECIAL = 2
    ADDED = 3
    UNUSED = 4


class ModelKind(StrEnum):
    """How a tokenizer turns a pretoken into tokens."""

    BYTE_LEVEL_BPE = "byte-level-bpe"
    SENTENCEPIECE_BPE = "sentencepiece-bpe"
    CHARACTER_BPE = "character-bpe"
    UNIGRAM = "unigram"
    WORDPIECE = "wordpiece"
    WORD_LEVEL = "word-level"
    LONGEST_MATCH = "longest-match"


class StartRule(StrEnum):
    """Which space the tokenizer puts before a text, and `decode` takes away again.

    "Stretch" is the text between two added tokens; a text without added tokens is one stretch.
    """

    NONE = "none"
    """No space is added."""
    DUMMY_SPACE_FIRST = "dummy-space-first"
    """Before the text, unless it begins with a space (Metaspace, prepend_scheme first)."""
    DUMMY_SPACE_UNLESS_SPACE = "dummy-space-unless-space"
    """Before each stretch, unless it begins with a space (Metaspace always, add_prefix_space)."""
    DUMMY_SPACE_ALWAYS = "dummy-space-always"
    """Before each stretch, even one that begins with a space (Prepend, .model dummy prefix)."""
    WORD_SPACE = "word-space"
    """Every word's first token carries a space before it (WordPiece and word-level decoders)."""


class Source:
    """The engine behind a vocabulary; built from the file's content when first used.

    Attributes:
        pre_tokenizer: The pre-tokenizer in the words of tokenizer.json, or None.
        ignore_merges: A whole pretoken that is a token is taken without merging.
        takes_bytes: `encode_bytes` works on any bytes, without UTF-8 and pretokens.
    """

    pre_tokenizer: dict[str, Any] | None = None
    ignore_merges: bool = False
    takes_bytes: bool = False

    @property
    def tokenizer_json(self) -> str | None:
        """Content of the tokenizer.json, or None for other formats."""
        return None

    def encode(self, text: str, *, is_start: bool = True) -> list[int]:
        """Return the ids of a text; without its start rule where `is_start` is false."""
        raise NotImplementedError

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of many texts."""
        return [self.encode(text) for text in texts]

    def encode_bytes(self, data: bytes) -> list[int]:
        """Return the ids of any bytes; only where `takes_bytes`."""
        raise NotImplementedError

    def normalizer_that_changes(self, text: str) -> str | None:
        """Return the name of the first normalizer that alters the text."""
        return None

    def merges(self) -> npt.NDArray[np.int64]:
        """Return left id, right id and result id of each merge, in order of rank."""
        return NO_MERGES


@dataclass(frozen=True)
class Parts:
    """Everything a reader found out; see `Vocabulary` for the meaning of the fields."""

    name: str
    tokens: list[bytes]
    kinds: npt.NDArray[np.uint8]
    special_tokens: dict[str, int]
    added_tokens: dict[str, int]
    model_kind: ModelKind
    start_rule: StartRule
    normalizer: str | None
    unk_token_id: int | None
    source: Source


def read_limited(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        TokenizerError: it is missing, no file, unreadable, empty or too large.
    """
    try:
        if not path.is_file():
            raise TokenizerError(f"{path} is not a file", hint="give a tokenizer file or folder")
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise TokenizerError(f"{path} has {size:,} bytes; at most {MAX_FILE_BYTES:,} are read")
        content = path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"cannot read {path}: {error.strerror}") from error
    if not content:
        raise TokenizerError(f"{path} is empty", hint="fetch the file again")
    return content


def check_id(token_id: object, token: object, where: str) -> int:
    """Return the id, or raise.

    Raises:
        TokenizerError: it is not a whole number from 0 to `MAX_ID`.
    """
    if type(token_id) is not int or not 0 <= token_id <= MAX_ID:
        raise TokenizerError(
            f"{where}: token {_short(token)} has id {_short(token_id)}; "
            f"ids are whole numbers from 0 to {MAX_ID:,}"
        )
    return token_id


def check_holes(max_id: int, num_tokens: int, where: str) -> None:
    """Refuse a file whose largest id would fill memory with holes.

    Raises:
        TokenizerError: naming the id.
    """
    if max_id > 8 * num_tokens + _HOLES_ALLOWED:
        raise TokenizerError(
            f"{where}: the largest id is {max_id:,}, but there are only {num_tokens:,} tokens",
            hint="the ids of this file are damaged; fetch it again",
        )


def place_by_id(ids: Mapping[Any, int], where: str) -> list[Any]:
    """Return the keys in a list by id, None in the holes.

    Raises:
        TokenizerError: an id is no id, or two keys share one.
    """
    if not ids:
        return []
    values = list(ids.values())
    # one C pass decides the ordinary case; the slow loop below only words the error
    if set(map(type, values)) != {int} or min(values) < 0 or max(values) > MAX_ID:
        for token, token_id in ids.items():
            check_id(token_id, token, where)
    check_holes(max(values), len(values), where)
    placed: list[Any] = [None] * (max(values) + 1)
    for token, token_id in ids.items():
        if placed[token_id] is not None:
            raise TokenizerError(
                f"{where}: id {token_id} belongs to both {_short(placed[token_id])} "
                f"and {_short(token)}"
            )
        placed[token_id] = token
    return placed


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
