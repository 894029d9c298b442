"""Which merge builds each token: the exact answer, for all tokens at once.

A BPE token occurs in some encoding only if BPE makes exactly that token of its own symbols:
merges never cross the border of a token that ends up in an encoding, so inside the border they
happen as if the rest were not there. The last of these merges is the token's rule. Any other merge
with the same result never fires, and a token without a rule is never made.

Whether a merge (left, right) is the rule is decided without running BPE: undo the later of the two
tokens that touch, and ask whether the pair that then touched would have merged first. This is the
test of compatible pairs of van Antwerpen & Neubeck 2024
(https://github.blog/ai-and-ml/llms/so-many-tokens-so-little-time/), here over arrays. It needs
parts that are made before their product; where a merge list breaks that order, BPE is run.

Cost: about a second for 200,000 tokens.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jeton.core.vocabulary import ModelKind, TokenKind, Vocabulary

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SYMBOL = -1
UNBUILT = -2
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Rules:
    """The rule of each token.

    Attributes:
        rule: Row of the merge that builds each id, `SYMBOL` where the id is a symbol that BPE
            starts from, `UNBUILT` where nothing builds it; shape (vocab_size,), int64.
        fires: Whether each merge ever fires, shape (merges,), bool.
    """

    rule: IntArray
    fires: BoolArray


def find_rules(merges: IntArray, is_symbol: BoolArray, lengths: IntArray) -> Rules:
    """Return which merge builds each token.

    Args:
        merges: Left id, right id and result id by rank, shape (merges, 3), int64.
        is_symbol: Whether BPE starts from this id, shape (vocab_size,), bool.
        lengths: Length of each token in bytes, so that parts are shorter than their product,
            shape (vocab_size,), int64.
    """
    return _Finder(merges, is_symbol).run(lengths)


class Meetings:
    """Which tokens can stand side by side in an encoding."""

    def __init__(self, merges: IntArray, is_symbol: BoolArray, lengths: IntArray) -> None:
        self._finder = _Finder(merges, is_symbol)
        self.rules = self._finder.run(lengths)

    def stand_together(self, left: Sequence[int], right: Sequence[int]) -> BoolArray:
        """Return whether BPE of each two tokens together may give just the two, shape (pairs,).

        Args:
            left: Ids that are built.
            right: As many ids that are built.
        """
        a, b = np.array(left, dtype=np.int64), np.array(right, dtype=np.int64)
        return self._finder.stand_together(a, b)


class _Finder:
    def __init__(self, merges: IntArray, is_symbol: BoolArray) -> None:
        num_tokens = len(is_symbol)
        self._merges = merges
        self._num_tokens = num_tokens
        keys = merges[:, 0] * num_tokens + merges[:, 1]
        # the last of equal pairs counts, as in a dict that is filled in order
        order = np.argsort(keys, kind="stable")
        last = np.append(keys[order][1:] != keys[order][:-1], True)[: len(order)]
        self._ranks = order[last]
        self._keys = keys[self._ranks]
        self._rule = np.where(is_symbol, SYMBOL, UNBUILT).astype(np.int64)
        self._left = np.full(num_tokens, -1, dtype=np.int64)
        self._right = np.full(num_tokens, -1, dtype=np.int64)
        self._made_at = np.where(is_symbol, SYMBOL, _NEVER).astype(np.int64)
        self._in_order = np.ones(num_tokens, dtype=bool)
        self._pairs: dict[tuple[int, int], int] | None = None

    def run(self, lengths: IntArray) -> Rules:
        lengths_of_rows = lengths[self._merges[self._ranks, 2]]
        order = np.argsort(lengths_of_rows, kind="stable")
        bounds = np.flatnonzero(np.diff(lengths_of_rows[order])) + 1
        for rows in np.split(self._ranks[order], bounds):
            if len(rows):
                self._add(np.sort(rows))
        fires = np.zeros(len(self._merges), dtype=bool)
        fires[self._rule[self._rule >= 0]] = True
        return Rules(self._rule, fires)

    def _add(self, rows: IntArray) -> None:
        """Find the rules among merges whose results have the same length."""
        left, right, result = self._merges[rows].T
        possible = (self._rule[left] != UNBUILT) & (self._rule[right] != UNBUILT)
        possible &= self._rule[result] != SYMBOL
        rows, left, right = rows[possible], left[possible], right[possible]
        holds, is_open = self._do_meet(left, right)
        self._set(rows[holds])
        for token in np.unique(self._merges[rows[is_open], 2]):
            if self._rule[token] == UNBUILT:
                row = self._last_merge(int(token), rows)
                if row is not None:
                    self._set(np.array([row]))

    def _set(self, rows: IntArray) -> None:
        left, right, result = self._merges[rows].T
        before = np.maximum(self._made_at[left], self._made_at[right])
        self._rule[result], self._left[result], self._right[result] = rows, left, right
        self._made_at[result] = np.maximum(rows, before)
        self._in_order[result] = (rows > before) & self._in_order[left] & self._in_order[right]

    def _do_meet(self, left: IntArray, right: IntArray) -> tuple[BoolArray, BoolArray]:
        """Return whether BPE over the two tokens' symbols comes to just these two.

        Returns:
            Whether they meet, and whether this could not be decided here; shape (pairs,) each.
        """
        a, b = left.copy(), right.copy()
        meets = np.zeros(len(a), dtype=bool)
        is_open = ~(self._in_order[a] & self._in_order[b])
        active = np.flatnonzero(~is_open)
        while len(active):
            left_at, right_at = self._made_at[a[active]], self._made_at[b[active]]
            is_done = (left_at == SYMBOL) & (right_at == SYMBOL)
            meets[active[is_done]] = True
            active, left_at, right_at = active[~is_done], left_at[~is_done], right_at[~is_done]
            undo_left = left_at > right_at  # of equal ones, the right was made after the left
            limit = np.where(undo_left, left_at, right_at + 1)
            a[active] = np.where(undo_left, self._right[a[active]], a[active])
            b[active] = np.where(undo_left, b[active], self._left[b[active]])
            active = active[self._rank_of(a[active], b[active]) >= limit]
        return meets, is_open

    def stand_together(self, left: IntArray, right: IntArray) -> BoolArray:
        """Return whether two tokens meet and do not merge; true where it is not decided."""
        meets, is_open = self._do_meet(left, right)
        may: BoolArray = is_open | (meets & (self._rank_of(left, right) == _NEVER))
        return may

    def _rank_of(self, left: IntArray, right: IntArray) -> IntArray:
        """Return the rank of each pair's merge, a huge number where there is none."""
        if not len(self._keys):
            return np.full(len(left), _NEVER)
        keys = left * self._num_tokens + right
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, self._ranks[at], _NEVER)

    def _last_merge(self, token: int, rows: IntArray) -> int | None:
        """Run BPE over the token's symbols; return its last merge if the token comes out."""
        if self._pairs is None:
            ranks = self._merges[self._ranks, :2].tolist()
            keys = map(tuple, ranks)
            self._pairs = dict(zip(keys, self._ranks.tolist(), strict=True))
        row = int(rows[self._merges[rows, 2] == token][0])
        symbols = self._symbols(int(self._merges[row, 0])) + self._symbols(
            int(self._merges[row, 1])
        )
        ids, last = run_bpe(symbols, self._pairs, self._merges[:, 2])
        return last if ids == [token] else None

    def _symbols(self, token: int) -> list[int]:
        """Return the symbols that a built token is made of."""
        found, stack = [], [token]
        while stack:
            top = stack.pop()
            if self._rule[top] == SYMBOL:
                found.append(top)
            else:
                stack += (int(self._right[top]), int(self._left[top]))
        return found


def run_bpe(
    symbols: Sequence[int], ranks: dict[tuple[int, int], int], results: IntArray
) -> tuple[list[int], int | None]:
    """Merge the pair of lowest rank, leftmost first, until none is left.

    Args:
        symbols: Ids to start from.
        ranks: Rank of each pair.
        results: Result id of each rank, shape (merges,).
    Returns:
        The ids, and the rank of the last merge (None without one).
    """
    ids = list(symbols)
    before, after = list(range(-1, len(ids) - 1)), list(range(1, len(ids) + 1))
    heap = [
        (ranks[pair], i) for i in range(len(ids) - 1) if (pair := (ids[i], ids[i + 1])) in ranks
    ]
    heapq.heapify(heap)
    last = None
    while heap:
        rank, i = heapq.heappop(heap)
        j = after[i]
        if ids[i] < 0 or j >= len(ids) or ranks.get((ids[i], ids[j])) != rank:
            continue
        last = rank
        ids[i], ids[j] = int(results[rank]), -1
        after[i] = after[j]
        if after[i] < len(ids):
            before[after[i]] = i
        for start in (before[i], i):
            if start >= 0 and after[start] < len(ids):
                pair = (ids[start], ids[after[start]])
                if pair in ranks:
                    heapq.heappush(heap, (ranks[pair], start))
    return [i for i in ids if i >= 0], last


def text_merges(vocabulary: Vocabulary) -> IntArray:
    """Return the merges that text can use: those without special tokens."""
    is_special = np.asarray(vocabulary.kinds) == TokenKind.SPECIAL
    merges: IntArray = vocabulary.merges[~is_special[vocabulary.merges].any(axis=1)]
    return merges


def symbols_of(vocabulary: Vocabulary) -> npt.NDArray[np.bool_]:
    """Return which ids BPE starts from: single bytes or characters, shape (vocab_size,)."""
    is_symbol: npt.NDArray[np.bool_] = np.asarray(vocabulary.kinds) == TokenKind.BYTE
    if vocabulary.model_kind is not ModelKind.BYTE_LEVEL_BPE:
        short = np.flatnonzero((vocabulary.lengths > 0) & (vocabulary.lengths <= 4))
        single = [i for i in short.tolist() if _is_character(vocabulary.tokens[i])]
        is_symbol[single] = True
    is_symbol[np.asarray(vocabulary.kinds) == TokenKind.SPECIAL] = False
    return is_symbol


def _is_character(token: bytes) -> bool:
    try:
        return len(token.decode()) == 1
    except UnicodeDecodeError:
        return False
