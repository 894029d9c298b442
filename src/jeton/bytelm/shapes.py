"""Where a pre-tokenizer lets each token stand, for all tokens at once.

Tokens whose characters are of the same classes cut alike: they share a shape. The shapes form a
trie; a walk over it, level by level, with sets of guesses as states, tells for every token whether
it may follow, and which guesses are left then. Results are kept by set of guesses: a few hundred
arise even in long texts.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from jeton.bytelm.segments import CUT, EITHER, NO_CUT, Guess, Segments, read_character
from jeton.core.vocabulary import TokenKind, Vocabulary

IntArray = npt.NDArray[np.int64]
DEAD = -1
_UNKNOWN = -2
_CACHE_BYTES = 1 << 25  # of masks by set of guesses

Symbol = tuple[str, int, int]  # character or "", class, byte (-1: none, 256 + byte: single)


@dataclass(frozen=True)
class Follow:
    """Which tokens may follow a set of guesses, a bit for each.

    Attributes:
        freely: Where a cut may or may not stand before the token, shape (vocab_size / 8,), uint8.
        behind_cut: Where a cut must stand before it, likewise.
    """

    freely: npt.NDArray[np.uint8]
    behind_cut: npt.NDArray[np.uint8]


class Shapes:
    """The shapes of a vocabulary's tokens and the automaton of guesses over them."""

    def __init__(self, vocabulary: Vocabulary, segments: Segments, has_fallback: bool) -> None:
        self.segments = segments
        self._sets: list[frozenset[Guess]] = []
        self._numbers: dict[frozenset[Guess], int] = {}
        self._symbols: list[Symbol] = []
        self._symbol_numbers: dict[Symbol, int] = {}
        self._build(vocabulary, has_fallback)
        self._size = vocabulary.vocab_size
        self._rows = np.empty((8, 3, len(self._symbols)), dtype=np.int32)  # moves of some states
        self._num_rows = 0
        self._row_of = np.full(64, -1, dtype=np.int32)  # by state
        self.start = self._number(segments.start())
        kept = max(64, min(4096, _CACHE_BYTES * 4 // self._size))
        self.follow = lru_cache(maxsize=kept)(self._follow)
        self.may_end = lru_cache(maxsize=None)(self._may_end)

    def _build(self, vocabulary: Vocabulary, has_fallback: bool) -> None:
        """Put the shapes of all tokens into a trie and lay it out by depth."""
        children: dict[tuple[int, int], int] = {}
        parents, symbols, depths = [-1], [0], [0]
        self._node_of = np.full(vocabulary.vocab_size, -1, dtype=np.int64)
        self._added: list[tuple[int, str]] = []
        nodes: dict[tuple[int, ...], int] = {}
        kinds = vocabulary.kinds.tolist()
        symbol = lru_cache(maxsize=None)(self._character)
        for token_id, token in enumerate(vocabulary.tokens):
            if not token:
                continue
            if kinds[token_id] == TokenKind.ADDED:
                self._added.append((token_id, token.decode("utf-8", "replace")))
                continue
            is_byte = len(token) == 1 and (has_fallback or token[0] >= 0x80)
            if has_fallback and is_byte and kinds[token_id] != TokenKind.BYTE:
                is_byte = False
            shape = (self._byte(token[0], 256),) if is_byte else self._shape(token, symbol)
            if shape is None:
                continue
            node = nodes.get(shape)
            if node is None:
                node = 0
                for number in shape:
                    key = (node, number)
                    child = children.get(key)
                    if child is None:
                        child = children[key] = len(parents)
                        parents.append(node)
                        symbols.append(number)
                        depths.append(depths[node] + 1)
                    node = child
                nodes[shape] = node
            self._node_of[token_id] = node
        order = np.argsort(np.array(depths), kind="stable")
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        self._parents = place[np.array(parents)[order]]
        self._node_symbols = np.array(symbols)[order]
        self._node_of = np.where(self._node_of >= 0, place[self._node_of], -1)
        self._contents = dict(self._added)
        self._cuts = np.searchsorted(np.array(depths)[order], np.arange(max(depths) + 2))

    def _character(self, character: str) -> int:
        own = character if character in self.segments.own_characters else ""
        return self._intern((own, self.segments._symbol(character), -1))

    def _byte(self, byte: int, flag: int = 0) -> int:
        return self._intern(("", 0, byte + flag))

    def _intern(self, symbol: Symbol) -> int:
        if symbol not in self._symbol_numbers:
            self._symbol_numbers[symbol] = len(self._symbols)
            self._symbols.append(symbol)
        return self._symbol_numbers[symbol]

    def _shape(self, token: bytes, symbol: Callable[[str], int]) -> tuple[int, ...] | None:
        """Return the symbols of a token; None where no text can hold it."""
        try:
            return tuple(map(symbol, token.decode()))
        except UnicodeDecodeError:
            pass
        start = 0
        while start < len(token) and 0x80 <= token[start] < 0xC0:
            start += 1
        end = len(token)
        for size in (1, 2, 3):
            if size <= len(token) - start and read_character(token[-size:]) == "":
                end = len(token) - size
        try:
            middle = token[start:end].decode()
        except UnicodeDecodeError:
            return None
        if start > 3:
            return None
        outer = (map(self._byte, token[:start]), map(self._byte, token[end:]))
        return (*outer[0], *map(symbol, middle), *outer[1])

    def _number(self, guesses: frozenset[Guess]) -> int:
        if not guesses:
            return DEAD
        found = self._numbers.get(guesses)
        if found is None:
            found = self._numbers[guesses] = len(self._sets)
            self._sets.append(guesses)
        return found

    def _may_end(self, state: int) -> bool:
        return any(self.segments.may_end(guess) for guess in self._sets[state])

    def _row(self, state: int) -> int:
        """Return the row of a state's moves; states that only end tokens never get one."""
        while state >= len(self._row_of):
            self._row_of = np.concatenate([self._row_of, np.full_like(self._row_of, -1)])
        row = int(self._row_of[state])
        if row < 0:
            row = self._num_rows
            self._num_rows += 1
            if row == len(self._rows):
                self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
            self._rows[row] = _UNKNOWN
            self._row_of[state] = row
        return row

    def _move(self, state: int, need: int, symbol: int) -> int:
        """Return the state after a symbol."""
        row = self._row(state)
        found = int(self._rows[row, need, symbol])
        if found == _UNKNOWN:
            after = frozenset(self._advance(self._sets[state], need, *self._symbols[symbol]))
            found = self._number(after)
            self._rows[row, need, symbol] = found
        return found

    def _advance(
        self, guesses: frozenset[Guess], need: int, own: str, kind: int, byte: int
    ) -> Iterator[Guess]:
        for guess in guesses:
            if byte < 0:
                plain = guess._replace(stray=b"") if guess.stray else guess
                yield from self.segments.character(plain, own, kind, need)
            else:
                is_single = byte >= 256
                yield from self.segments.byte(guess, byte & 255, need, is_single=is_single)

    def _follow(self, state: int) -> Follow:
        masks = []
        for need in (EITHER, CUT):
            lives = self._walk(state, need) != DEAD
            masks.append((self._node_of >= 0) & lives[self._node_of])
        for token_id, content in self._added:
            is_possible = self._after_added(state, content) != DEAD
            masks[0][token_id] = masks[1][token_id] = is_possible
        return Follow(np.packbits(masks[0]), np.packbits(masks[1]))

    def _after_added(self, state: int, content: str) -> int:
        found = (self.segments.added(guess, content) for guess in self._sets[state])
        return self._number(frozenset(guess for guess in found if guess is not None))

    def _walk(self, state: int, need: int) -> IntArray:
        """Return the state at each node of the trie of shapes."""
        states = np.full(len(self._parents), DEAD, dtype=np.int64)
        states[0] = state
        for depth in range(1, len(self._cuts) - 1):
            here = slice(self._cuts[depth], self._cuts[depth + 1])
            before = states[self._parents[here]]
            alive = np.flatnonzero(before != DEAD)
            if not len(alive):
                break
            before, symbols = before[alive], self._node_symbols[here][alive]
            level_need = need if depth == 1 else NO_CUT
            for source in np.flatnonzero(np.bincount(before)).tolist():
                self._row(source)
            rows = self._row_of[before]
            found = self._rows[rows, level_need, symbols]
            unknown = np.flatnonzero(found == _UNKNOWN)
            if len(unknown):
                for i in unknown.tolist():
                    self._move(int(before[i]), level_need, int(symbols[i]))
                found = self._rows[rows, level_need, symbols]
            states[self._cuts[depth] + alive] = found
        return states

    def allowed(self, state: int, valid: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return which tokens may follow, a bit for each.

        Args:
            state: Guesses after the last token.
            valid: Whether each token may stand beside the last one within a pretoken, packed.
        """
        follow = self.follow(state)
        return (valid & follow.freely) | follow.behind_cut  # a cut may always stand where it must

    def step(self, state: int, token_id: int, *, is_valid: bool) -> int:
        """Return the state after one more token, or `DEAD`."""
        if token_id in self._contents:
            return self._after_added(state, self._contents[token_id])
        node = int(self._node_of[token_id])
        if node < 0:
            return DEAD
        path = []
        while node > 0:
            path.append(int(self._node_symbols[node]))
            node = int(self._parents[node])
        need = EITHER if is_valid else CUT
        for symbol in reversed(path):
            state = self._move(state, need, symbol)
            if state == DEAD:
                break
            need = NO_CUT
        return state
