"""All stems that a text can have, found without a model: what a forward over a known text needs."""

from collections.abc import Hashable
from dataclasses import dataclass, field

from jeton.bytelm.contract import Bits, Rule, is_set
from jeton.bytelm.lexicon import IntArray, Lexicon
from jeton.bytelm.paths import Paths
from jeton.errors import UnsupportedModelError

MOST_STEMS = 64  # that end at one byte; published tokenizers have 1 or 2


@dataclass
class Growth:
    """Stems of a text, by number; those of shorter texts come first. Number 0 is the empty one.

    Attributes:
        data: The text's bytes, a dummy space included.
        nodes: The sequence of each stem, in `Paths`.
        parents: The stem without its last token.
        ends: Bytes of each.
        bits: Which tokens may follow it; None for all.
        may_end: Whether the text may end behind it.
        states: Of the rule.
        refused: Stem, token and bytes of tokens that agree with the text but may not follow.
        offsets: Of the rows of `ranges`, by place.
        ranges: Tokens that agree with the text behind each place, see `Lexicon.ranges`.
    """

    data: bytes
    offsets: IntArray
    ranges: IntArray
    nodes: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    bits: list[Bits | None] = field(default_factory=list)
    may_end: list[bool] = field(default_factory=list)
    states: list[Hashable] = field(default_factory=list)
    refused: list[tuple[int, int, int]] = field(default_factory=list)

    def find(self, node: int) -> int:
        """Return the stem of a sequence, -1 when there is none."""
        try:
            return self.nodes.index(node)
        except ValueError:
            return -1

    def living(self, lexicon: Lexicon, *, is_masked: bool = True) -> list[int]:
        """Return the stems with which the text can go on or end.

        Args:
            lexicon: The tokens.
            is_masked: Whether a token that overhangs the text must be allowed.
        """
        size = len(self.data)
        found = []
        for stem in range(len(self.nodes) - 1, -1, -1):
            depth = size - self.ends[stem]
            if depth == 0:
                found.append(stem)
                continue
            row = int(self.offsets[self.ends[stem]]) + depth - 1
            if row >= self.offsets[self.ends[stem] + 1]:
                continue
            _, longer, high = self.ranges[row].tolist()
            bits = self.bits[stem]
            ids = lexicon.ids[longer:high].tolist()
            if ids and (bits is None or not is_masked or any(is_set(bits, i) for i in ids)):
                found.append(stem)
        return found[::-1]


Root = tuple[int, Hashable, int]  # a sequence, the rule's state behind it, where it ends


def grow(
    lexicon: Lexicon, rule: Rule, paths: Paths, roots: list[Root], data: bytes, beyond: int = 0
) -> Growth:
    """Return every stem of a text behind some roots.

    Args:
        lexicon: The tokens.
        rule: Which sequences count.
        paths: Where sequences are numbered.
        roots: The sequences that the text follows, with the places where they end in it.
        data: Its bytes, with the dummy space where the start rule has one.
        beyond: Only tokens that end behind this place follow a root.
    """
    offsets, ranges = lexicon.ranges(data)
    growth = Growth(data, offsets, ranges)
    listed = ranges[:, :2].tolist()
    first = offsets.tolist()
    ids = lexicon.ids
    waiting: list[list[tuple[int, int, Hashable]]] = [[] for _ in range(len(data) + 1)]
    for node, state, end in roots:
        waiting[end].append((node, -1, state))
    for end, stems in enumerate(waiting):
        if not stems:
            continue
        if len(stems) > MOST_STEMS:
            raise UnsupportedModelError(
                f"a text has more than {MOST_STEMS} beginnings in tokens of "
                f"{lexicon.vocabulary.name} that end at byte {end}",
                hint="measure 'all' keeps the most probable ones",
            )
        rows = listed[first[end] : first[end + 1]] if end < len(data) else []
        matches = [
            (token_id, end + depth)
            for depth, (low, longer) in enumerate(rows, 1)
            if low < longer
            for token_id in ids[low:longer].tolist()
        ]
        for node, parent, state in stems:
            number = len(growth.nodes)
            bits, may_end = rule.mask(state)
            growth.nodes.append(node)
            growth.parents.append(parent)
            growth.ends.append(end)
            growth.bits.append(bits)
            growth.may_end.append(may_end)
            growth.states.append(state)
            for token_id, after in matches:
                if parent < 0 and after <= beyond:
                    continue
                if bits is None or is_set(bits, token_id):
                    child = paths.child(node, token_id)
                    waiting[after].append((child, number, rule.step(state, token_id)))
                else:
                    growth.refused.append((number, token_id, after))
        waiting[end] = []
    return growth
