"""Which tokens may follow in byte pair encoding: byte-level, tiktoken ranks and SentencePiece.

A sequence of tokens is the beginning of an encoding when the pre-tokenizer can cut its text so that
no cut stands inside a token, and neighbours without a cut between them are a pair that BPE leaves
apart. `Shapes` knows the cuts, `Pairs` the pairs.
"""

from collections.abc import Hashable
from functools import lru_cache

import numpy as np

from jeton.bytelm.contract import Bits, BoolArray, is_set
from jeton.bytelm.cuts import make_scanner
from jeton.bytelm.pairs import Pairs
from jeton.bytelm.segments import Segments
from jeton.bytelm.shapes import Shapes
from jeton.core.vocabulary import ModelKind, TokenKind, Vocabulary

_NOTHING = -1  # the last token at the start
_CACHE_BYTES = 1 << 26  # of masks, a bit for each token
_STEPS = 1 << 16
State = tuple[int, int]  # last token, guesses


class BpeRule:
    """The exact rule of BPE behind a pre-tokenizer that is known.

    Cost: 1 to 4 ms for a vocabulary of 50,000 tokens when a last token is first met; masks of the
    most recent ones are kept.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Derive every token.

        Raises:
            UnknownPattern: the pre-tokenizer has a step that is not known.
        """
        has_fallback = vocabulary.model_kind is not ModelKind.BYTE_LEVEL_BPE
        scanner, classes = make_scanner(vocabulary)
        kinds = vocabulary.kinds
        pieces = _characters(vocabulary) if has_fallback else frozenset()
        self.pairs = Pairs(vocabulary.merges, _symbols(vocabulary), vocabulary.lengths)
        segments = Segments(
            scanner,
            classes.symbol,
            vocabulary.added_tokens,
            (lambda c: c not in pieces) if has_fallback else None,
        )
        self.shapes = Shapes(vocabulary, segments, has_fallback)
        is_added = (kinds == TokenKind.ADDED) & (vocabulary.lengths > 0)
        self._reachable: BoolArray = self.pairs.is_built | is_added
        if vocabulary.ignore_merges:  # a pretoken that is a token is taken without merging
            self._reachable = self._reachable | (vocabulary.lengths > 0)
        self._reachable = self._reachable & ~_never_written(vocabulary, self._reachable)
        self._reachable_bits = np.packbits(self._reachable)
        self._none = np.zeros_like(self._reachable_bits)
        size = max(64, min(8192, _CACHE_BYTES // len(self._none)))
        self._valid = lru_cache(maxsize=size)(self._pack)
        self.step = lru_cache(maxsize=_STEPS)(self._step)

    def start(self) -> Hashable:
        """Return the state before the first token."""
        return _NOTHING, self.shapes.start

    def _pack(self, last: int) -> Bits:
        return np.packbits(self.pairs.valid_after(last))

    def _step(self, state: Hashable, token_id: int) -> Hashable:
        """Return the state after one more token."""
        last, guesses = _checked(state)
        is_valid = last != _NOTHING and is_set(self._valid(last), token_id)
        return token_id, self.shapes.step(guesses, token_id, is_valid=is_valid)

    def mask(self, state: Hashable) -> tuple[Bits | None, bool]:
        """Return which tokens may follow, packed, and whether the text may end."""
        last, guesses = _checked(state)
        if guesses < 0:
            return self._none, False
        valid = self._none if last == _NOTHING else self._valid(last)
        allowed = self.shapes.allowed(guesses, valid) & self._reachable_bits
        return allowed, self.shapes.may_end(guesses)


def _checked(state: Hashable) -> State:
    assert isinstance(state, tuple)
    return state


def _never_written(vocabulary: Vocabulary, reachable: BoolArray) -> BoolArray:
    """Return which of several tokens with equal bytes the tokenizer passes over."""
    groups: dict[bytes, list[int]] = {}
    for token_id in np.flatnonzero(reachable).tolist():
        groups.setdefault(vocabulary.tokens[token_id], []).append(token_id)
    passed = np.zeros(vocabulary.vocab_size, dtype=bool)
    for token, ids in groups.items():
        if len(ids) < 2:
            continue
        written = set(vocabulary.encode_lossy(token)).union(vocabulary.encode_lossy(b"a" + token))
        if written.intersection(ids):
            passed[[i for i in ids if i not in written]] = True
    return passed


def _symbols(vocabulary: Vocabulary) -> BoolArray:
    """Return what BPE starts from: bytes, or characters that are pieces and byte tokens."""
    kinds, lengths = vocabulary.kinds, vocabulary.lengths
    if vocabulary.model_kind is ModelKind.BYTE_LEVEL_BPE:
        symbols = (lengths == 1) & (kinds != TokenKind.SPECIAL)
        return np.asarray(symbols & (kinds != TokenKind.ADDED))
    result = kinds == TokenKind.BYTE
    for i in np.flatnonzero((lengths > 0) & (lengths <= 4) & (kinds == TokenKind.TEXT)).tolist():
        token = vocabulary.tokens[i]
        try:
            result[i] = len(token.decode()) == 1
        except UnicodeDecodeError:
            continue
    return np.asarray(result)


def _characters(vocabulary: Vocabulary) -> frozenset[str]:
    """Return the characters that have a piece."""
    found = np.flatnonzero(_symbols(vocabulary) & (vocabulary.kinds == TokenKind.TEXT))
    return frozenset(vocabulary.tokens[i].decode() for i in found.tolist())
