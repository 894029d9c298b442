"""Where a pre-tokenizer cuts, told from the left: guesses that the following text confirms.

Whether a pretoken ends here can hang on what follows (`\\s+(?!\\S)`, contractions, longer matches).
A `Scan` is one guess about the text so far: the threads of the match that is under way, and the
threads that the guess rules out. When a ruled-out thread matches after all, the guess was wrong.
Of all guesses about a finished text exactly one survives.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from jeton.bytelm.pattern import END_OF_PIECE, MATCH, Automaton

_MOST_VISITED = 500  # guesses looked at to see whether a guess can come true; most need one


class Scan(NamedTuple):
    """A guess about a piece so far.

    Attributes:
        threads: Of the match under way, best first; None between matches.
        excluded: Threads that must never match.
        required: Sets of threads of which one must match, each.
        is_fresh: Nothing has been read.
    """

    threads: tuple[int, ...] | None
    excluded: frozenset[int]
    required: frozenset[frozenset[int]]
    is_fresh: bool


FRESH = Scan(None, frozenset(), frozenset(), True)


class Level(Protocol):
    """One step of a pre-tokenizer: it cuts the pieces that the step before it made."""

    def step(self, scan: Scan, symbol: int) -> Iterator[tuple[bool, Scan]]:
        """Yield, for each guess, whether there is a cut before the symbol, and the guess."""
        ...

    def may_end(self, scan: Scan) -> bool:
        """Return whether the guess holds if the piece ends here."""
        ...


@dataclass(frozen=True)
class Matches:
    """Matches of a pattern are pieces, and so is what stands between two of them."""

    automaton: Automaton

    def step(self, scan: Scan, symbol: int) -> Iterator[tuple[bool, Scan]]:
        """Yield, for each guess, whether there is a cut before the symbol, and the guess."""
        automaton = self.automaton
        excluded = _exclude(automaton, scan.excluded, symbol)
        if excluded is None:
            return
        scan = scan._replace(excluded=excluded)
        if scan.threads is None:
            yield from self._begin(scan.excluded, symbol, goes_on=not scan.is_fresh)
            return
        reached = automaton.closure(scan.threads, symbol)
        better = reached[: reached.index(MATCH)] if MATCH in reached else reached
        alive = automaton.advance(better, symbol)
        if MATCH in reached:  # the match ends here, unless a better thread comes to match
            yield from self._begin(scan.excluded | frozenset(alive), symbol, goes_on=False)
        if alive:
            yield False, Scan(alive, scan.excluded, frozenset(), False)

    def _begin(
        self, excluded: frozenset[int], symbol: int, *, goes_on: bool
    ) -> Iterator[tuple[bool, Scan]]:
        """Yield the guesses that a match begins with this symbol, and that none does."""
        automaton = self.automaton
        alive = automaton.advance(automaton.closure((automaton.start,), symbol), symbol)
        if alive:
            yield True, Scan(alive, excluded, frozenset(), False)
        yield not goes_on, Scan(None, excluded | frozenset(alive), frozenset(), False)

    def may_end(self, scan: Scan) -> bool:
        """Return whether the guess holds if the piece ends here."""
        closure = self.automaton.closure
        if MATCH in closure(sorted(scan.excluded), END_OF_PIECE):
            return False
        return scan.threads is None or MATCH in closure(scan.threads, END_OF_PIECE)


@dataclass(frozen=True)
class CutsBefore:
    """A pattern without length: a cut wherever it would match."""

    automaton: Automaton

    def step(self, scan: Scan, symbol: int) -> Iterator[tuple[bool, Scan]]:
        """Yield, for each guess, whether there is a cut before the symbol, and the guess."""
        automaton = self.automaton
        start = frozenset((automaton.start,))
        ways = [(True, False), (False, True)] if not scan.is_fresh else [(True, None)]
        for is_cut, forbids in ways:
            required, excluded = scan.required, scan.excluded
            if forbids is True:
                excluded = excluded | start
            elif forbids is False:
                required = required | {start}
            after = _exclude(automaton, excluded, symbol)
            goals = _require(automaton, required, symbol)
            if after is not None and goals is not None:
                yield is_cut, Scan(None, after, goals, False)

    def may_end(self, scan: Scan) -> bool:
        """Return whether the guess holds if the piece ends here."""
        closure = self.automaton.closure
        if MATCH in closure(sorted(scan.excluded), END_OF_PIECE):
            return False
        return all(MATCH in closure(sorted(goal), END_OF_PIECE) for goal in scan.required)


def _exclude(automaton: Automaton, threads: frozenset[int], symbol: int) -> frozenset[int] | None:
    """Advance threads that must not match; None when one does."""
    if not threads:
        return threads
    reached = automaton.closure(sorted(threads), symbol)
    if MATCH in reached:
        return None
    return frozenset(automaton.advance(reached, symbol))


def _require(
    automaton: Automaton, goals: frozenset[frozenset[int]], symbol: int
) -> frozenset[frozenset[int]] | None:
    """Advance sets of which one thread must match; None when one cannot any more."""
    after = set()
    for goal in goals:
        reached = automaton.closure(sorted(goal), symbol)
        if MATCH in reached:
            continue
        alive = frozenset(automaton.advance(reached, symbol))
        if not alive:
            return None
        after.add(alive)
    return frozenset(after)


Scans = tuple[Scan, ...]  # one for each level


@dataclass(frozen=True)
class Scanner:
    """All steps of a pre-tokenizer.

    Attributes:
        levels: In the order in which they cut.
        alphabet: Symbols that stand for all characters, to see whether a guess can come true.
    """

    levels: tuple[Level, ...]
    alphabet: tuple[int, ...]

    def fresh(self) -> Scans:
        """Return the guess about an empty piece."""
        return (FRESH,) * len(self.levels)

    def step(self, scans: Scans, symbol: int, first: int = 0) -> Iterator[tuple[bool, Scans]]:
        """Yield, for each guess, whether there is a cut before the symbol, and the guess."""
        if first == len(self.levels):
            yield False, ()
            return
        own, inner = scans[0], scans[1:]
        for is_cut, after in self.levels[first].step(own, symbol):
            if is_cut and not own.is_fresh:  # a new piece begins for all steps behind this one
                if not self._may_end(inner, first + 1):
                    continue
                inner_now = (FRESH,) * len(inner)
            else:
                inner_now = inner
            for is_inner_cut, rest in self.step(inner_now, symbol, first + 1):
                yield is_cut or is_inner_cut, (after, *rest)

    def may_end(self, scans: Scans) -> bool:
        """Return whether the guess holds if the text ends here."""
        return self._may_end(scans, 0)

    def _may_end(self, scans: Sequence[Scan], first: int) -> bool:
        levels = self.levels[first:]
        return all(level.may_end(scan) for level, scan in zip(levels, scans, strict=True))

    def can_come_true(self, scans: Scans) -> bool:
        """Return whether some continuation confirms the guess."""
        seen, queue = {scans}, [scans]
        while queue:
            found = queue.pop(0)
            if self.may_end(found):
                return True
            for symbol in self.alphabet:
                for _, after in self.step(found, symbol):
                    if after not in seen:
                        seen.add(after)
                        queue.append(after)
            if len(seen) > _MOST_VISITED:
                return True
        return False
