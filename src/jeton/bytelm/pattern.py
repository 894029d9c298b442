"""Patterns of pre-tokenizers as automata that read one character at a time.

A backtracking engine takes the first alternative that matches, and of a greedy count the longest.
Threads in order of preference, advanced together, tell the same (Pike's machine; R. Cox 2009,
https://swtch.com/~rsc/regexp/regexp2.html), and unlike a search they can stop anywhere in a text.

What is known: alternatives, groups, (?i:), sets and properties, greedy counts, possessive counts
where giving back would not help, `$`, and looking one set ahead. Others raise `UnknownPattern`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

END_OF_PIECE = -1  # stands for the symbol behind the last character
MATCH = 0  # the number of the accepting node

_MOST_COPIES = 64  # of a counted item; published patterns count to 3
_PROPERTIES = "pP"
_SIMPLE = "sSdDwWhHrntfv"


class UnknownPattern(Exception):  # noqa: N818 - caught inside this room, never shown
    """A construct that the automaton does not know."""


@dataclass(frozen=True)
class Node:
    """One node: reads a character of a set, branches, or looks ahead.

    Attributes:
        atom: Index of the set to read, or to look at; -1 for a branch.
        nexts: Where to go, best first.
        looks: 0 reads, 1 requires the next character to be of the set, 2 forbids it, 3 requires
            the end of the piece.
    """

    atom: int
    nexts: tuple[int, ...]
    looks: int = 0


@dataclass
class Automaton:
    """A compiled pattern.

    Attributes:
        nodes: By number; number 0 accepts.
        start: Where a match begins.
        atoms: Patterns of one character each; bit i of a symbol says whether it is of atom i.
        disjoint: Pairs of atoms that must not overlap for a possessive count to be a greedy one.
    """

    nodes: list[Node] = field(default_factory=lambda: [Node(-1, ())])
    start: int = MATCH
    atoms: list[str] = field(default_factory=list)
    disjoint: list[tuple[int, int]] = field(default_factory=list)

    def closure(self, threads: Sequence[int], symbol: int) -> list[int]:
        """Return the reading nodes that threads reach before a symbol, best first.

        Args:
            threads: Nodes, best first.
            symbol: What comes next, or `END_OF_PIECE`.
        Returns:
            Reading nodes, and `MATCH` where a match ends here; each once.
        """
        found: dict[int, None] = {}
        seen: set[int] = set()
        stack = list(reversed(threads))
        while stack:
            number = stack.pop()
            if number in seen:
                continue
            seen.add(number)
            node = self.nodes[number]
            if number == MATCH or (node.atom >= 0 and node.looks == 0):
                found[number] = None
            elif self._passes(node, symbol):
                stack.extend(reversed(node.nexts))
        return list(found)

    def _passes(self, node: Node, symbol: int) -> bool:
        if node.looks == 0:
            return True
        if symbol == END_OF_PIECE:
            return node.looks != 1
        if node.looks == 3:
            return False
        return bool(symbol >> node.atom & 1) == (node.looks == 1)

    def advance(self, reached: Sequence[int], symbol: int) -> tuple[int, ...]:
        """Return the threads after the symbol was read, best first."""
        after: dict[int, None] = {}
        for number in reached:
            node = self.nodes[number]
            if number != MATCH and symbol >> node.atom & 1:
                after[node.nexts[0]] = None
        return tuple(after)


Build = Callable[[int], int]  # given the node behind an item, makes the item and returns its start


class PatternCompiler:
    """Compiles patterns over shared atoms.

    Example:
        >>> compiler = PatternCompiler()
        >>> automaton = compiler.compile(r" ?\\p{L}+|\\s+(?!\\S)")
        >>> automaton.atoms
        [' ', '\\\\p{L}', '\\\\s', '\\\\S']
    """

    def __init__(self) -> None:
        self.atoms: list[str] = []
        self._numbers: dict[str, int] = {}
        self._text, self._at = "", 0
        self._automaton = Automaton()

    def compile(self, pattern: str) -> Automaton:
        """Return the automaton of a pattern.

        Raises:
            UnknownPattern: it has a construct that is not known.
        """
        self._text, self._at = pattern, 0
        self._automaton = automaton = Automaton(atoms=self.atoms)
        build = self._alternatives(ignores_case=False)
        if self._at != len(pattern):
            raise UnknownPattern(pattern[self._at :])
        automaton.start = build(MATCH)
        return automaton

    def _peek(self, size: int = 1) -> str:
        return self._text[self._at : self._at + size]

    def _take(self, expected: str) -> bool:
        if self._text.startswith(expected, self._at):
            self._at += len(expected)
            return True
        return False

    def _add(self, node: Node) -> int:
        self._automaton.nodes.append(node)
        return len(self._automaton.nodes) - 1

    def _atom(self, pattern: str, *, ignores_case: bool) -> int:
        name = f"(?i:{pattern})" if ignores_case else pattern
        if name not in self._numbers:
            self._numbers[name] = len(self.atoms)
            self.atoms.append(name)
        return self._numbers[name]

    def _alternatives(self, *, ignores_case: bool) -> Build:
        ways = [self._sequence(ignores_case=ignores_case)]
        while self._take("|"):
            ways.append(self._sequence(ignores_case=ignores_case))
        if len(ways) == 1:
            return ways[0]
        return lambda after: self._add(Node(-1, tuple(way(after) for way in ways)))

    def _sequence(self, *, ignores_case: bool) -> Build:
        items: list[Build] = []
        pending = -1  # the atom of a possessive count whose neighbour is not known yet
        while self._at < len(self._text) and self._peek() not in "|)":
            build, first = self._item(ignores_case=ignores_case)
            build, is_possessive = self._counted(build)
            if pending >= 0 and first != _ANCHOR:
                if first < 0:
                    raise UnknownPattern("a possessive count before a group")
                self._automaton.disjoint.append((pending, first))
            if is_possessive and first < 0:
                raise UnknownPattern("a possessive group")
            pending = first if is_possessive else -1
            items.append(build)

        def whole(after: int) -> int:
            for item in reversed(items):
                after = item(after)
            return after

        return whole

    def _item(self, *, ignores_case: bool) -> tuple[Build, int]:
        """Return one item without its count, and its atom, _GROUP or _ANCHOR."""
        for opening, looks in (("(?=", 1), ("(?!", 2)):
            if self._take(opening):
                return self._look(looks, ignores_case=ignores_case), _ANCHOR
        for opening in ("(?i:", "(?:", "("):
            if self._take(opening):
                if opening == "(" and self._peek() == "?":
                    raise UnknownPattern(self._text[self._at :])
                inner = self._alternatives(ignores_case=ignores_case or opening == "(?i:")
                if not self._take(")"):
                    raise UnknownPattern("an open group")
                return inner, _GROUP
        if self._peek() == "$" or self._peek(2) in ("\\z", "\\Z"):
            self._at += 1 if self._peek() == "$" else 2
            return lambda after: self._add(Node(-1, (after,), looks=3)), _ANCHOR
        atom = self._atom(self._one_character(), ignores_case=ignores_case)
        return lambda after: self._add(Node(atom, (after,))), atom

    def _look(self, looks: int, *, ignores_case: bool) -> Build:
        atom = self._atom(self._one_character(), ignores_case=ignores_case)
        if not self._take(")"):
            raise UnknownPattern("looking further than one character")
        return lambda after: self._add(Node(atom, (after,), looks))

    def _one_character(self) -> str:
        """Take the pattern of one character: a set, an escape or the character itself."""
        start = self._at
        head = self._peek()
        if head == "[":
            self._at += 1
            self._take("^")
            self._take("]")
            while self._peek() != "]":
                if not self._peek() or self._peek() == "[" or self._peek(2) == "&&":
                    raise UnknownPattern(self._text[start:])
                self._at += 2 if self._peek() == "\\" else 1
            self._at += 1
        elif head == "\\":
            kind = self._peek(2)[1:]
            self._at += 2
            if kind and kind in _PROPERTIES:
                closing = self._text.find("}", self._at)
                if self._peek() != "{" or closing < 0:
                    raise UnknownPattern(self._text[start:])
                self._at = closing + 1
            elif not kind or (kind.isalnum() and kind not in _SIMPLE):
                raise UnknownPattern(self._text[start:])
        elif head in ("^", "*", "+", "?", "{", ")", "|", ""):
            raise UnknownPattern(self._text[start:])
        else:
            self._at += 1
        return self._text[start : self._at]

    def _counted(self, build: Build) -> tuple[Build, bool]:
        """Take the count behind an item; return the repeated item and whether it is possessive."""
        low, high = 1, 1
        if self._take("?"):
            low, high = 0, 1
        elif self._take("*"):
            low, high = 0, -1
        elif self._take("+"):
            low, high = 1, -1
        elif self._peek() == "{":
            low, high = self._braces()
        else:
            return build, False
        if self._peek() == "?":
            raise UnknownPattern("a lazy count")
        is_possessive = self._take("+")
        if max(low, high) > _MOST_COPIES:
            raise UnknownPattern("a large count")
        return lambda after: self._repeat(build, low, high, after), is_possessive

    def _braces(self) -> tuple[int, int]:
        closing = self._text.find("}", self._at)
        low, comma, high = self._text[self._at + 1 : closing].partition(",")
        if closing < 0 or not low.isdigit() or (high and not high.isdigit()):
            raise UnknownPattern(self._text[self._at :])
        self._at = closing + 1
        return int(low), (int(high) if high else -1 if comma else int(low))

    def _repeat(self, build: Build, low: int, high: int, after: int) -> int:
        if high < 0:
            loop = self._add(Node(-1, ()))
            self._automaton.nodes[loop] = Node(-1, (build(loop), after))
            after = loop
        else:
            end = after
            for _ in range(high - low):
                after = self._add(Node(-1, (build(after), end)))
        for _ in range(low):
            after = build(after)
        return after


_GROUP, _ANCHOR = -1, -2


def atoms_of(automata: Sequence[Automaton]) -> Iterator[str]:
    """Yield the atoms of automata that share a compiler, each once."""
    if automata:
        yield from automata[0].atoms
