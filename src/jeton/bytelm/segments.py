"""Guesses about how a tokenizer cuts a text that arrives as tokens, down to bytes.

On top of the pre-tokenizer's cuts: characters that are split over tokens, bytes that are not UTF-8
(each is a token of its own, and text begins anew behind it), and added tokens, which are found in
the text before anything else.
"""

import codecs
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

from jeton.bytelm.scanner import Scanner, Scans

EITHER, CUT, NO_CUT = 0, 1, 2  # what must stand before a character


class Guess(NamedTuple):
    """A guess about the text so far.

    Attributes:
        scans: Of the pre-tokenizer.
        is_fresh: Nothing stands in front: the text begins here, or begins anew.
        partial: First bytes of a character that is not whole yet.
        need: What must stand before that character.
        stray: Bytes taken for stray that must not turn out to be a character.
        near: Beginnings of added tokens that must not be completed.
    """

    scans: Scans
    is_fresh: bool
    partial: bytes = b""
    need: int = EITHER
    stray: bytes = b""
    near: frozenset[str] = frozenset()


def read_character(data: bytes) -> str | None:
    """Return the character, "" for a beginning of one, None where there can be none.

    Example:
        >>> [read_character(data) for data in (b"\\xc3\\xa9", b"\\xc3", b"\\xc3a", b"\\xff")]
        ['é', '', None, None]
    """
    try:
        text, used = codecs.utf_8_decode(data, "strict", False)
    except UnicodeDecodeError:
        return None
    return text if used == len(data) else "" if not used else None


class Segments:
    """Advances guesses by characters, bytes and added tokens.

    Attributes:
        scanner: The pre-tokenizer.
    """

    def __init__(
        self,
        scanner: Scanner,
        symbol: Callable[[str], int],
        added: Iterable[str] = (),
        may_fall_back: Callable[[str], bool] | None = None,
    ) -> None:
        """Take what cuts a text.

        Args:
            scanner: The pre-tokenizer.
            symbol: The class of a character.
            added: Contents of added tokens.
            may_fall_back: Whether a character is written in byte tokens; None for tokenizers that
                work on bytes throughout.
        """
        self.scanner = scanner
        self._symbol = symbol
        self._may_fall_back = may_fall_back
        self._added = frozenset(added)
        self._beginnings = frozenset(a[:i] for a in self._added for i in range(1, len(a)))
        self.own_characters = frozenset("".join(self._added))
        self._possible = lru_cache(maxsize=None)(scanner.can_come_true)

    def start(self) -> frozenset[Guess]:
        """Return the guesses about the empty text."""
        return frozenset((Guess(self.scanner.fresh(), True),))

    def may_end(self, guess: Guess) -> bool:
        """Return whether the guess holds if the text ends here."""
        return not guess.partial and (guess.is_fresh or self.scanner.may_end(guess.scans))

    def character(self, guess: Guess, character: str, symbol: int, need: int) -> Iterator[Guess]:
        """Yield the guesses after one more character.

        Args:
            guess: The one before.
            character: The character where added tokens hold it, else "".
            symbol: Its class.
            need: What must stand before it.
        """
        if guess.partial:
            return
        near = self._narrow(guess.near, character) if self._added else guess.near
        if near is None:
            return
        for is_cut, scans in self.scanner.step(guess.scans, symbol):
            cut = is_cut or guess.is_fresh
            if need == (NO_CUT if cut else CUT) or not self._possible(scans):
                continue
            yield Guess(scans, False, near=near)

    def _narrow(self, near: frozenset[str], character: str) -> frozenset[str] | None:
        """Advance beginnings of added tokens; None when one is completed."""
        if not character:
            return frozenset()
        found = {beginning + character for beginning in (*near, "")}
        if found & self._added:
            return None
        return frozenset(found & self._beginnings)

    def byte(self, guess: Guess, byte: int, need: int, *, is_single: bool) -> Iterator[Guess]:
        """Yield the guesses after one more byte of a character that is split over tokens.

        Args:
            guess: The one before.
            byte: Its value.
            need: What must stand before it.
            is_single: Whether it is a token of its own.
        """
        data = guess.partial + bytes([byte])
        character = read_character(data)
        if character is not None and not (guess.partial and need == CUT):
            before = guess.need if guess.partial else need
            if not character:
                yield guess._replace(partial=data, need=before, stray=b"")
            elif self._may_fall_back is None or self._may_fall_back(character):
                whole = guess._replace(partial=b"", need=EITHER, stray=b"")
                own = character if character in self.own_characters else ""
                yield from self.character(whole, own, self._symbol(character), before)
        if guess.partial or not is_single or byte < 0x80:
            return
        stray = guess.stray + bytes([byte])
        if read_character(stray) is None:
            stray = bytes([byte])
        if read_character(stray) or not self.may_end(guess):
            return
        kept = stray if read_character(stray) == "" else b""
        yield Guess(self.scanner.fresh(), True, stray=kept)

    def added(self, guess: Guess, content: str) -> Guess | None:
        """Return the guess after an added token, None where it cannot stand."""
        if not self.may_end(guess):
            return None
        near = guess.near
        for character in content:
            found = {beginning + character for beginning in near}
            if found & self._added:
                return None
            near = frozenset(found & self._beginnings)
        if content in self._beginnings:
            near = near | {content}
        return Guess(self.scanner.fresh(), True, near=near)
