"""`Vocabulary`: the exact bytes of every token id of any tokenizer, and its canonical encoding.

Bytes are read from the tokenizer's own decoder pipeline, never from `decode([id])`. Encoding is
done by the format's own engine, which is started when first used.

What is canonical: for text, what the tokenizer itself gives for it as ordinary text (contents of
special tokens written in the text are text). Three things that no tokenizer defines are settled
here, so that vocabularies with byte tokens can write any bytes:

- bytes that are not UTF-8 are cut out; each maximal run of valid UTF-8 is encoded on its own, each
  byte between them is its one-byte token;
- where the start rule hides a text's own first space, the dummy space is written explicitly;
- with SentencePiece byte fallback, the character "▁" (which would turn into a space) is written in
  byte tokens, and text that looks like a byte token ("<0x0A>") is cut after its "<".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jeton.core.encode import cut_for_byte_fallback, split_utf8_runs
from jeton.core.formats import live, rwkv, sentencepiece, sidecar, tiktoken
from jeton.core.formats.reasons import explain_loss, hides_first_space
from jeton.core.formats.source import (
    ModelKind,
    Parts,
    Source,
    StartRule,
    TokenKind,
    read_limited,
)
from jeton.core.formats.tokenizer_json import read_tokenizer_json
from jeton.errors import EncodingError, TokenizerError, TokenizerMismatchError

__all__ = ["ModelKind", "StartRule", "TokenKind", "Vocabulary", "load_vocabulary"]

_FILE_NAMES = (
    "tokenizer.json",
    "*.tiktoken",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "*.model",
    "rwkv_vocab*.txt",
)


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Bytes and kind of every token id, with the rules of its tokenizer.

    Attributes:
        name: For people: the folder or file it came from.
        tokens: Bytes by id, in the tokenizer's own decoding; empty for special and unused ids.
            Two ids may have equal bytes.
        kinds: `TokenKind` by id, shape (vocab_size,), uint8.
        special_tokens: Ids of special tokens by content.
        added_tokens: Ids of added tokens that are ordinary text, by content.
        model_kind: How a pretoken becomes tokens.
        start_rule: Which space is put before a text.
        normalizer: In words; None when bytes are untouched.
        eos_token_id: End of text, best effort.
        bos_token_id: Begin of text, best effort.
        unk_token_id: The unknown token, where the tokenizer has one.
        source: The engine and the file's own words.
    """

    name: str
    tokens: list[bytes] = field(repr=False)
    kinds: npt.NDArray[np.uint8] = field(repr=False)
    special_tokens: dict[str, int] = field(repr=False)
    added_tokens: dict[str, int] = field(repr=False)
    model_kind: ModelKind
    start_rule: StartRule
    normalizer: str | None
    eos_token_id: int | None = None
    bos_token_id: int | None = None
    unk_token_id: int | None = None
    source: Source = field(default_factory=Source, repr=False)

    @property
    def vocab_size(self) -> int:
        """Number of ids that the tokenizer knows: the highest id plus one."""
        return len(self.tokens)

    @property
    def tokenizer_json(self) -> str | None:
        """Content of the tokenizer.json, None for other formats."""
        return self.source.tokenizer_json

    @property
    def pre_tokenizer(self) -> dict[str, Any] | None:
        """The pre-tokenizer in the words of tokenizer.json; None when there is none."""
        return self.source.pre_tokenizer

    @property
    def ignore_merges(self) -> bool:
        """Whether a whole pretoken that is a token is taken without merging."""
        return self.source.ignore_merges

    @cached_property
    def merges(self) -> npt.NDArray[np.int64]:
        """Left id, right id and result id of each merge by rank, shape (merges, 3), int64."""
        return self.source.merges()

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Length of each token in bytes, shape (vocab_size,), int64."""
        return np.fromiter(map(len, self.tokens), dtype=np.int64, count=self.vocab_size)

    @cached_property
    def byte_ids(self) -> list[int]:
        """Id of the one-byte token of each byte, 256 of them; -1 where there is none."""
        found = [-1] * 256
        for kind in (TokenKind.BYTE, TokenKind.ADDED):  # some files give bytes as added tokens
            for i in np.flatnonzero((self.lengths == 1) & (self.kinds == kind)).tolist():
                byte = self.tokens[i][0]
                if found[byte] < 0:
                    found[byte] = i
        return found

    @property
    def has_all_bytes(self) -> bool:
        """Whether every byte has a one-byte token."""
        return min(self.byte_ids) >= 0

    def encode(self, data: bytes | str) -> list[int]:
        """Return the canonical ids of bytes as ordinary text, without a begin-of-text token.

        Raises:
            EncodingError: no encoding decodes to the bytes; the message says why.
        """
        ids, reason = self._encode_exactly(_as_bytes(data))
        if reason is not None:
            raise EncodingError(
                f"{self.name} cannot write these bytes exactly: {reason}",
                hint="encode_lossy gives what the tokenizer makes of them",
            )
        return ids

    def encode_lossy(self, data: bytes | str) -> list[int]:
        """Return what the tokenizer itself gives for the bytes, whether it decodes to them or not.

        Bytes that are not UTF-8 become byte tokens, or U+FFFD where there are none.
        """
        data = _as_bytes(data)
        if self.source.takes_bytes:
            return self.source.encode_bytes(data)
        try:
            return self.source.encode(data.decode())
        except UnicodeDecodeError:
            runs = list(split_utf8_runs(data))
            if self._missing_byte(runs) is None:
                return self._encode_runs(runs)
            return self.source.encode(data.decode(errors="replace"))

    def encode_batch(self, batch: Iterable[bytes | str]) -> list[list[int]]:
        """Return the canonical ids of many texts; like `encode`, on all threads.

        Raises:
            EncodingError: one of them has no encoding that decodes to it.
        """
        items = [_as_bytes(item) for item in batch]
        if self.source.takes_bytes:
            return [self.encode(item) for item in items]
        texts: list[str] = []
        places: list[int] = []
        results: list[list[int]] = [[] for _ in items]
        for place, item in enumerate(items):
            try:
                texts.append(item.decode())
                places.append(place)
            except UnicodeDecodeError:
                results[place] = self.encode(item)
        encoded = self.source.encode_batch(texts) if texts else []
        for place, ids in zip(places, encoded, strict=True):
            is_exact = self.decode(ids) == items[place]
            results[place] = ids if is_exact else self.encode(items[place])
        return results

    def decode(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> bytes:
        """Return the bytes of a text's ids: concatenated, without the start rule's space.

        Raises:
            TokenizerMismatchError: an id is out of range.
        """
        data = self.bytes_of(ids)
        return data[1:] if self.start_rule is not StartRule.NONE and data[:1] == b" " else data

    def bytes_of(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> bytes:
        """Return the plain concatenation of the tokens' bytes.

        Raises:
            TokenizerMismatchError: an id is out of range.
        """
        listed = ids.tolist() if isinstance(ids, np.ndarray) else ids
        self._check_ids(listed)
        return b"".join(map(self.tokens.__getitem__, listed))

    def token_offsets(self, ids: Sequence[int] | npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Return where each token ends in `decode(ids)`, shape (len(ids),), int64.

        Raises:
            TokenizerMismatchError: an id is out of range.
        """
        listed = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
        dropped = len(self.bytes_of(listed)) - len(self.decode(listed))
        ends = np.cumsum(self.lengths[np.array(listed, dtype=np.int64)], dtype=np.int64)
        return np.maximum(ends - dropped, 0)

    def why_not_lossless(self, data: bytes | str) -> str | None:
        """Return why no encoding decodes to the bytes, None when one does."""
        return self._encode_exactly(_as_bytes(data))[1]

    def _check_ids(self, ids: Sequence[int]) -> None:
        if len(ids) and not (min(ids) >= 0 and max(ids) < self.vocab_size):
            wrong = min(ids) if min(ids) < 0 else max(ids)
            raise TokenizerMismatchError(
                f"id {wrong} is out of range: {self.name} has ids 0 to {self.vocab_size - 1}",
                hint="the ids come from another tokenizer, or from padding rows of the model",
            )

    def _encode_exactly(self, data: bytes) -> tuple[list[int], str | None]:
        """Return ids and None, or any ids and the reason why they do not decode to the bytes."""
        runs: Iterable[str | bytes] = () if self.source.takes_bytes else list(split_utf8_runs(data))
        if (missing := self._missing_byte(runs)) is not None:
            return [], f"it is not UTF-8, and no token is the single byte 0x{missing:02X}"
        ids = self.encode_lossy(data)
        if self.decode(ids) == data:
            return ids, None
        if not self.source.takes_bytes:
            if self.has_all_bytes and self.model_kind is not ModelKind.BYTE_LEVEL_BPE:
                runs = cut_for_byte_fallback(runs)
            repaired = self._encode_runs(runs, writes_dummy_space=True)
            if self.decode(repaired) == data:
                return repaired, None
        return ids, explain_loss(self, data.decode(errors="ignore"), ids)

    def _missing_byte(self, runs: Iterable[str | bytes]) -> int | None:
        """Return a byte outside of UTF-8 that has no token, None when all have one."""
        outside = set().union(*(run for run in runs if isinstance(run, bytes)))
        return min((byte for byte in outside if self.byte_ids[byte] < 0), default=None)

    def _encode_runs(
        self, runs: Iterable[str | bytes], *, writes_dummy_space: bool = False
    ) -> list[int]:
        """Encode runs of text and of bytes one after the other; the start rule applies once."""
        ids: list[int] = []
        for i, run in enumerate(runs):
            if isinstance(run, bytes):
                if i == 0 and self.start_rule is not StartRule.NONE:
                    ids += self.source.encode(" ", is_start=False)
                ids += map(self.byte_ids.__getitem__, run)
            elif i == 0 and writes_dummy_space and hides_first_space(self.start_rule, run):
                ids += self.source.encode(" " + run)
            else:
                ids += self.source.encode(run, is_start=i == 0)
        return ids

    @classmethod
    def from_parts(cls, parts: Parts, names: Mapping[str, Any] | None = None) -> "Vocabulary":
        """Return a vocabulary of what a reader found, with the names beside the file."""
        known = dict(names or {})
        size = len(parts.tokens)
        if not size:
            raise TokenizerError(f"{parts.name}: there are no tokens in it")
        special = parts.special_tokens
        eos = sidecar.find_special_id("eos", known, special, size)
        bos = sidecar.find_special_id("bos", known, special, size)
        return cls(**vars(parts), eos_token_id=eos, bos_token_id=bos)

    @classmethod
    def from_file(cls, path: str | Path) -> "Vocabulary":
        """Read a tokenizer file of any known kind, or the one in a folder.

        Raises:
            TokenizerError: there is none, or it is damaged.
        """
        path = Path(path)
        file = _find_file(path) if path.is_dir() else path
        content = read_limited(file)
        names = sidecar.read_names(file.parent)
        if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[") or file.suffix == ".json":
            special = sidecar.special_names(names)
            name = path.name if path.is_dir() else file.stem
            return cls.from_parts(read_tokenizer_json(content, name or str(path), special), names)
        head = content[:4096]
        del content
        if tiktoken.looks_like_ranks(head):
            return cls.from_tiktoken(file)
        if rwkv.looks_like_rwkv(head):
            return cls.from_rwkv(file)
        if sentencepiece.looks_like_sentencepiece(head):
            return cls.from_sentencepiece(file)
        raise TokenizerError(
            f"{file} is of no known kind",
            hint="known: tokenizer.json, tiktoken ranks, SentencePiece .model, RWKV vocabulary",
        )

    @classmethod
    def from_tokenizer_json(
        cls, content: str | Mapping[str, Any], name: str = "tokenizer.json"
    ) -> "Vocabulary":
        """Read the content of a tokenizer.json, as text or parsed."""
        return cls.from_parts(read_tokenizer_json(content, name))

    @classmethod
    def from_tiktoken(
        cls,
        path: str | Path,
        pattern: str | None = None,
        special_tokens: Mapping[str, int] | None = None,
    ) -> "Vocabulary":
        """Read a tiktoken rank file; the pattern and special tokens default to its spec.json."""
        path = Path(path)
        parts = tiktoken.read_tiktoken(path, pattern, special_tokens)
        return cls.from_parts(parts, sidecar.read_names(path.parent))

    @classmethod
    def from_sentencepiece(cls, path: str | Path) -> "Vocabulary":
        """Read a SentencePiece .model; encoding with it needs the extra `sentencepiece`."""
        path = Path(path)
        return cls.from_parts(
            sentencepiece.read_sentencepiece(path), sidecar.read_names(path.parent)
        )

    @classmethod
    def from_rwkv(cls, path: str | Path) -> "Vocabulary":
        """Read an RWKV World vocabulary."""
        return cls.from_parts(rwkv.read_rwkv(Path(path)))

    @classmethod
    def from_transformers(cls, tokenizer: Any) -> "Vocabulary":
        """Read a live tokenizer of `transformers` or `tokenizers`.

        Raises:
            TokenizerError: it has neither a backend nor a file that can be read.
        """
        return cls.from_parts(*live.read_live(tokenizer))


def load_vocabulary(source: object) -> Vocabulary:
    """Return the vocabulary of a folder, a tokenizer file of any known kind, or a live tokenizer.

    Args:
        source: A path, a live tokenizer, or a vocabulary, which is returned as it is.
    Raises:
        TokenizerError: nothing there can be read as a tokenizer.
    Example:
        >>> from tokenizers import Tokenizer, models
        >>> load_vocabulary(Tokenizer(models.BPE({"a": 0, "b": 1}, []))).vocab_size
        2
    """
    if isinstance(source, Vocabulary):
        return source
    if isinstance(source, (str, Path)):
        return Vocabulary.from_file(source)
    return Vocabulary.from_transformers(source)


def _find_file(folder: Path) -> Path:
    for pattern in _FILE_NAMES:
        found = sorted(folder.glob(pattern))
        if found:
            return found[0]
    raise TokenizerError(
        f"{folder} holds no tokenizer file",
        hint="looked for " + ", ".join(_FILE_NAMES),
    )


def _as_bytes(data: bytes | str) -> bytes:
    """Return UTF-8; half surrogate pairs become the three bytes that are not UTF-8."""
    return data.encode("utf-8", "surrogatepass") if isinstance(data, str) else bytes(data)
