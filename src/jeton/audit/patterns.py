"""What a pre-tokenizer's pattern can match: a finite automaton that accepts at least every match.

Lookarounds and anchors are taken as always true, so that the automaton accepts too much, never too
little: what it rejects no text can bring about. Single characters are tested by the `regex` module
with the pattern's own classes. A pattern that this small parser does not know is refused.

Cost: a walk over a few hundred states per token.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import regex

from jeton.errors import UnsupportedModelError

_MAX_COPIES = 64
_MAX_STATES = 20_000
_MAX_CLASS = 12  # characters of an atom that are worth listing
_EVERY = "".join(map(chr, (*range(0xD800), *range(0xE000, 0x30000))))


@dataclass
class Automaton:
    """Matches of a pattern, as states with empty and character transitions.

    Attributes:
        empty: States reached from each without a character; `exact` leaves out lookarounds.
        moves: Atom and target from each state.
    """

    empty: list[list[int]] = field(default_factory=list)
    exact: list[list[int]] = field(default_factory=list)
    moves: list[list[tuple["Atom", int]]] = field(default_factory=list)
    start: int = 0
    end: int = 0

    def add(self) -> int:
        """Return a new state."""
        if len(self.moves) >= _MAX_STATES:
            raise UnsupportedModelError(f"the pattern needs more than {_MAX_STATES} states")
        for table in (self.empty, self.exact, self.moves):
            table.append([])
        return len(self.moves) - 1

    def link(self, source: int, target: int, *, is_exact: bool = True) -> None:
        """Join two states without a character."""
        self.empty[source].append(target)
        if is_exact:
            self.exact[source].append(target)

    def close(self, states: Iterable[int], *, is_exact: bool = False) -> set[int]:
        """Return the states and all that follow without a character."""
        table = self.exact if is_exact else self.empty
        found, stack = set(states), list(states)
        while stack:
            for state in table[stack.pop()]:
                if state not in found:
                    found.add(state)
                    stack.append(state)
        return found

    def step(self, states: Iterable[int], char: str) -> set[int]:
        """Return the states after one character, closed."""
        return self.close({t for s in states for atom, t in self.moves[s] if atom.takes(char)})

    def covers(self, char: str) -> bool:
        """Return whether some alternative surely matches the character alone."""
        states = self.close({self.start}, is_exact=True)
        after = {t for s in states for atom, t in self.moves[s] if atom.takes(char)}
        return self.end in self.close(after, is_exact=True)

    def can_contain(self, text: str, followers: str = "") -> bool:
        """Return whether a match may contain the text, followed by one of the characters given."""
        states = set(range(len(self.moves)))
        for char in text:
            states = self.step(states, char)
            if not states:
                return False
        return not followers or any(
            atom.takes_any(followers) for state in states for atom, _ in self.moves[state]
        )

    def matches_with(self, text: str, limit: int) -> list[str] | None:
        """Return every match that contains the text, None when there may be more than a few."""
        found: list[str] = []
        for entry in range(len(self.moves)):
            states = {entry}
            if not any(atom.takes(text[0]) for atom, _ in self.moves[entry]):
                continue
            for char in text:
                states = self.step(states, char)
            if not states:
                continue
            heads = self._strings(self.close({self.start}), {entry}, limit)
            tails = self._strings(states, {self.end}, limit)
            if heads is None or tails is None or len(found) + len(heads) * len(tails) > limit:
                return None
            found += [head + text + tail for head in heads for tail in tails]
        return sorted(set(found))

    def _strings(self, states: set[int], targets: set[int], limit: int) -> list[str] | None:
        """Return the strings that lead from states to targets, None when they are too many."""
        useful = self._leading_to(targets)
        found, stack = [], [("", states)]
        while stack:
            text, current = stack.pop()
            if current & targets:
                found.append(text)
            nexts: set[str] = set()
            for state in current & useful:
                for atom, target in self.moves[state]:
                    if target in useful:
                        if atom.characters is None:
                            return None
                        nexts.update(atom.characters)
            stack += [(text + char, self.step(current, char)) for char in sorted(nexts)]
            if len(found) + len(stack) > limit or len(text) > 16:
                return None
        return found

    def _leading_to(self, targets: set[int]) -> set[int]:
        found, is_growing = set(targets), True
        while is_growing:
            more = {
                state
                for state in range(len(self.moves))
                if state not in found
                and (
                    any(target in found for target in self.empty[state])
                    or any(target in found for _, target in self.moves[state])
                )
            }
            is_growing = bool(more)
            found |= more
        return found


@dataclass(frozen=True)
class Atom:
    """One character of a pattern: a literal or a class."""

    source: str
    ignores_case: bool
    _known: dict[str, bool] = field(default_factory=dict, compare=False)

    @cached_property
    def _pattern(self) -> "regex.Pattern[str]":
        try:
            flags = regex.V0 | (regex.IGNORECASE if self.ignores_case else 0)
            return regex.compile(self.source, flags)
        except regex.error as error:
            raise UnsupportedModelError(f"cannot read {self.source!r}: {error}") from error

    def takes(self, char: str) -> bool:
        """Return whether the atom matches the character."""
        known = self._known.get(char)
        if known is None:
            known = self._known[char] = self._pattern.fullmatch(char) is not None
        return known

    def takes_any(self, characters: str) -> bool:
        """Return whether the atom matches one of the characters."""
        return self._pattern.search(characters) is not None

    @cached_property
    def characters(self) -> list[str] | None:
        """The characters that it matches, None when they are many."""
        found = []
        for match in self._pattern.finditer(_EVERY):
            found.append(match.group())
            if len(found) > _MAX_CLASS:
                return None
        return found


def build_automaton(pattern: str) -> Automaton:
    """Return the automaton of a pattern.

    Raises:
        UnsupportedModelError: the pattern has something that the parser does not know.

    Example:
        >>> words = build_automaton(r" ?\\p{L}+|'s|\\s+(?!\\S)")
        >>> words.can_contain("the"), words.can_contain("e t"), words.matches_with("'", 9)
        (True, False, ["'s"])
    """
    return _Parser(pattern).run()


class _Parser:
    def __init__(self, pattern: str) -> None:
        self._text = pattern
        self._at = 0
        self._automaton = Automaton()

    def run(self) -> Automaton:
        start, end = self._alternatives(ignores_case=False)
        if self._at < len(self._text):
            raise self._refuse()
        self._automaton.start, self._automaton.end = start, end
        return self._automaton

    def _refuse(self) -> UnsupportedModelError:
        return UnsupportedModelError(f"cannot read {self._text[self._at :][:20]!r} of a pattern")

    def _looking_at(self, text: str) -> bool:
        return self._text.startswith(text, self._at)

    def _accept(self, text: str) -> bool:
        if self._looking_at(text):
            self._at += len(text)
            return True
        return False

    def _alternatives(self, ignores_case: bool) -> tuple[int, int]:
        start, end = self._automaton.add(), self._automaton.add()
        while True:
            first, last = self._sequence(ignores_case)
            self._automaton.link(start, first)
            self._automaton.link(last, end)
            if not self._accept("|"):
                return start, end

    def _sequence(self, ignores_case: bool) -> tuple[int, int]:
        start = last = self._automaton.add()
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            begin = self._at
            parts = [self._atom(ignores_case)]
            low, high, is_exact = self._quantifier()
            after = self._at
            while len(parts) < max(low, high or low, 1):
                self._at = begin  # copies: the same piece of the pattern is read again
                parts.append(self._atom(ignores_case))
            self._at = after
            last = self._repeat(last, parts, low, high, is_exact)
        return start, last

    def _repeat(
        self, last: int, parts: list[tuple[int, int]], low: int, high: int | None, is_exact: bool
    ) -> int:
        """Chain copies after a state: `low` must be taken, the others may."""
        end = self._automaton.add()
        for index, (first, final) in enumerate(parts):
            if index >= low:
                self._automaton.link(last, end, is_exact=is_exact)
            self._automaton.link(last, first, is_exact=is_exact)
            last = final
        if high is None:
            self._automaton.link(last, parts[-1][0], is_exact=is_exact)
            if low == 0:
                self._automaton.link(last, end, is_exact=is_exact)
        self._automaton.link(last, end, is_exact=is_exact)
        return end

    def _quantifier(self) -> tuple[int, int | None, bool]:
        """Return least, most (None: no limit), and whether backtracking is as usual."""
        low, high = 1, 1  # type: int, int | None
        if self._accept("?"):
            low = 0
        elif self._accept("*"):
            low, high = 0, None
        elif self._accept("+"):
            high = None
        elif counts := regex.compile(r"\{(\d+)(,?)(\d*)\}").match(self._text, self._at):
            self._at = counts.end()
            low = int(counts[1])
            high = (int(counts[3]) if counts[3] else None) if counts[2] else low
            if self._accept("+"):  # possessive here, one or more times there: both are in this
                return min(low, _MAX_COPIES), None, False
        else:
            return 1, 1, True
        if low > _MAX_COPIES or (high or 0) > _MAX_COPIES:
            low, high = min(low, _MAX_COPIES), None
        if self._accept("+"):
            return low, high, False
        self._accept("?")
        return low, high, True

    def _atom(self, ignores_case: bool) -> tuple[int, int]:
        for opening in ("(?=", "(?!", "(?<=", "(?<!"):
            if self._accept(opening):
                self._alternatives(ignores_case)  # read over
                return self._close(*self._nothing())
        for opening, ignores in (("(?:", ignores_case), ("(?i:", True), ("(", ignores_case)):
            if opening == "(" and self._looking_at("(?"):
                break
            if self._accept(opening):
                return self._close(*self._alternatives(ignores))
        if self._accept("^") or self._accept("$") or self._accept(r"\b") or self._accept(r"\z"):
            return self._nothing()
        found = regex.compile(
            r"\[\^?\]?(?:\[:\^?\w+:\]|\\[pP]\{[^}]*\}|\\.|[^\]\[&\\]|&(?!&))*\]"
            r"|\\[pP]\{[^}]*\}|\\x\{?[0-9a-fA-F]+\}?|\\u[0-9a-fA-F]{4}|\\[^\dA-Zaceg-mo-qu-z]"
            r"|\\[DSWaefnrtvdsw]|\.|[^\\()\[\]|?*+{}^$]"
        ).match(self._text, self._at)
        if found is None:
            raise self._refuse()
        self._at = found.end()
        start, end = self._automaton.add(), self._automaton.add()
        literal = found.group()
        source = literal if len(literal) > 1 or literal == "." else regex.escape(literal)
        self._automaton.moves[start].append((Atom(source, ignores_case), end))
        return start, end

    def _nothing(self) -> tuple[int, int]:
        start, end = self._automaton.add(), self._automaton.add()
        self._automaton.link(start, end, is_exact=False)
        return start, end

    def _close(self, start: int, end: int) -> tuple[int, int]:
        if not self._accept(")"):
            raise self._refuse()
        return start, end
