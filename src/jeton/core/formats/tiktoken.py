"""Reads tiktoken rank files: one line per token, its bytes in base64 and its rank."""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import regex
from tokenizers import Tokenizer, models, pre_tokenizers

from jeton.core.encode import bytes_to_byte_level, recover_merges
from jeton.core.formats.engine import call_engine
from jeton.core.formats.patterns import check_pattern
from jeton.core.formats.source import (
    ModelKind,
    Parts,
    Source,
    StartRule,
    TokenKind,
    check_holes,
    check_id,
    place_by_id,
    read_limited,
)
from jeton.errors import TokenizerError

_WORDS_PER_CALL = 1000  # an engine call costs more than a word
_SPEC_HINT = 'put a spec.json {"pat_str": ..., "special_tokens": {...}} beside it, or pass pattern='


def read_tiktoken(
    path: Path, pattern: str | None = None, special_tokens: Mapping[str, int] | None = None
) -> Parts:
    """Return the parts of a vocabulary.

    Args:
        path: The rank file.
        pattern: The pre-tokenizer's pattern; by default `pat_str` of a spec.json beside the file.
        special_tokens: Ids of special tokens; by default those of spec.json.
    Raises:
        TokenizerError: the file is damaged, or no pattern is known.
    """
    ranks = parse_ranks(read_limited(path), str(path))
    spec = _read_spec(path.with_name("spec.json")) if pattern is None else {}
    name = spec.get("name", path.stem)
    pattern = spec.get("pat_str") if pattern is None else pattern
    if special_tokens is None:
        special_tokens = spec.get("special_tokens", {})
    if not isinstance(pattern, str) or not isinstance(name, str):
        raise TokenizerError(f"{path}: the pattern that cuts text is not known", hint=_SPEC_HINT)
    return read_ranks(ranks, pattern, special_tokens, name)


def read_ranks(
    ranks: Mapping[bytes, int], pattern: str, special_tokens: object, name: str
) -> Parts:
    """Return the parts of a vocabulary given as ranks, pattern and special tokens."""
    tokens = [token or b"" for token in place_by_id(ranks, name)]
    if not tokens:
        raise TokenizerError(f"{name}: there are no ranks in it")
    special = _check_special(special_tokens, name)
    max_id = max(special.values(), default=-1)
    check_holes(max_id, len(tokens), name)
    tokens.extend([b""] * (max_id + 1 - len(tokens)))
    kinds = np.full(len(tokens), TokenKind.TEXT, dtype=np.uint8)
    kinds[[i for i, token in enumerate(tokens) if len(token) == 1]] = TokenKind.BYTE
    kinds[[i for i, token in enumerate(tokens) if not token]] = TokenKind.UNUSED
    for content, token_id in special.items():
        if tokens[token_id]:
            raise TokenizerError(
                f"{name}: special token {content!r} has id {token_id}, "
                f"which belongs to {tokens[token_id]!r}"
            )
        kinds[token_id] = TokenKind.SPECIAL
    return Parts(
        name=name,
        tokens=tokens,
        kinds=kinds,
        special_tokens=special,
        added_tokens={},
        model_kind=ModelKind.BYTE_LEVEL_BPE,
        start_rule=StartRule.NONE,
        normalizer=None,
        unk_token_id=None,
        source=TiktokenSource(tokens, pattern, name),
    )


def looks_like_ranks(head: bytes) -> bool:
    """Tell whether a file's first bytes are lines of base64 and rank."""
    return regex.match(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n", head) is not None


def parse_ranks(content: bytes, where: str) -> dict[bytes, int]:
    """Return the rank of each token.

    Raises:
        TokenizerError: a line is not base64 and rank, or a token comes twice.
    """
    ranks: dict[bytes, int] = {}
    decode = binascii.a2b_base64
    lines = content.splitlines()
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            token, rank = line.split()
            ranks[decode(token, strict_mode=True)] = int(rank)
        except ValueError as error:
            raise TokenizerError(
                f"{where}: line {number} is not base64 and rank: {line[:60]!r}",
                hint="the file is damaged; fetch it again",
            ) from error
    if len(ranks) != sum(map(bool, lines)) or b"" in ranks:
        raise TokenizerError(f"{where}: a token comes twice, or is empty")
    return ranks


def _read_spec(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        spec = json.loads(read_limited(path))
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path} is not whole JSON: {error}") from error
    if not isinstance(spec, dict):
        raise TokenizerError(f"{path} must be an object", hint=_SPEC_HINT)
    return spec


def _check_special(special_tokens: object, name: str) -> dict[str, int]:
    if not isinstance(special_tokens, Mapping):
        raise TokenizerError(f"{name}: special_tokens must map contents to ids")
    for content, token_id in special_tokens.items():
        if not isinstance(content, str):
            raise TokenizerError(f"{name}: special token {content!r} must be a string")
        check_id(token_id, content, f"{name}: special_tokens")
    place_by_id(special_tokens, f"{name}: special_tokens")
    return dict(special_tokens)


class TiktokenSource(Source):
    """Cuts with the `regex` module, as tiktoken's patterns want, and merges in `tokenizers`.

    The engine's own pattern dialect reads possessive counts (`{1,3}+`) otherwise.
    """

    ignore_merges = True

    def __init__(self, tokens: Sequence[bytes], pattern: str, name: str) -> None:
        self._tokens = tokens
        self._name = name
        self.pattern = pattern
        self.pre_tokenizer = {
            "type": "Split",
            "pattern": {"Regex": pattern},
            "behavior": "Isolated",
            "invert": False,
        }
        check_pattern(pattern, name)
        try:
            self._pattern = regex.compile(pattern)
        except regex.error as error:
            raise TokenizerError(f"{name}: bad pattern {pattern!r}: {error}") from error

    @cached_property
    def _merges(self) -> list[tuple[bytes, bytes]]:
        return recover_merges(self._ranks)

    @cached_property
    def _ranks(self) -> dict[bytes, int]:
        return {token: rank for rank, token in enumerate(self._tokens) if token}

    @cached_property
    def _engine(self) -> Tokenizer:
        name = self._name
        vocab = {bytes_to_byte_level(token): rank for token, rank in self._ranks.items()}
        merges = [(bytes_to_byte_level(a), bytes_to_byte_level(b)) for a, b in self._merges]
        model = call_engine(models.BPE, vocab, merges, ignore_merges=True, name=name)
        engine = Tokenizer(model)
        engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        return engine

    def _cut(self, text: str) -> list[str]:
        if self._pattern.groups:  # findall would give the groups
            return [match.group() for match in self._pattern.finditer(text) if match.group()]
        return [piece for piece in self._pattern.findall(text) if piece]

    def encode(self, text: str, *, is_start: bool = True) -> list[int]:
        """Return the ids of a text."""
        pretokens = self._cut(text)
        if not pretokens:
            return []
        encoding = call_engine(
            self._engine.encode,
            pretokens,
            is_pretokenized=True,
            add_special_tokens=False,
            name=self._name,
        )
        return list(encoding.ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of many texts, on all threads."""
        cuts = [self._cut(text) for text in texts]
        known = self._encode_words(dict.fromkeys(chain.from_iterable(cuts)))
        return [[i for word in cut for i in known[word]] for cut in cuts]

    def _encode_words(self, words: Iterable[str]) -> dict[str, list[int]]:
        """Return the ids of distinct pretokens; those that are tokens need no engine."""
        found: dict[str, list[int]] = {}
        rest = []
        for word in words:
            rank = self._ranks.get(word.encode())
            if rank is None:
                rest.append(word)
            else:
                found[word] = [rank]
        parts = [rest[at : at + _WORDS_PER_CALL] for at in range(0, len(rest), _WORDS_PER_CALL)]
        encodings = call_engine(
            self._engine.encode_batch_fast,
            parts,
            is_pretokenized=True,
            add_special_tokens=False,
            name=self._name,
        )
        for part, encoding in zip(parts, encodings, strict=True):
            ids, at = encoding.ids, 0
            ends = accumulate(len(self._tokens[i]) for i in ids)
            ends_at = {end: place + 1 for place, end in enumerate(ends)}
            for word, end in zip(part, accumulate(len(w.encode()) for w in part), strict=True):
                found[word] = ids[at : (at := ends_at[end])]
        return found

    def merges(self) -> npt.NDArray[np.int64]:
        """Return left id, right id and result id of each merge, in order of rank."""
        ranks = self._ranks
        rows = [(ranks[a], ranks[b], ranks[a + b]) for a, b in self._merges]
        return np.array(rows, dtype=np.int64).reshape(-1, 3)


def dump_ranks(tokens: Mapping[bytes, int]) -> bytes:
    """Return a rank file's content.

    Example:
        >>> dump_ranks({b"a": 0})
        b'YQ== 0\\n'
    """
    ordered = sorted(tokens.items(), key=lambda item: item[1])
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ordered)
