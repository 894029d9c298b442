"""Which token may follow which within one pretoken of BPE.

Inside a pretoken a sequence of tokens is what BPE makes of its bytes exactly when each neighbouring
pair is (van Antwerpen & Neubeck 2024,
https://github.blog/ai-and-ml/llms/so-many-tokens-so-little-time/). A pair (left, right) fails when
some part on the right edge of `left` and some part on the left edge of `right` exist at the same
time and merge. The tokens that fail behind `left` are found all at once: ordered as a forest by
their left parts (siblings by rank), they are a union of intervals.
"""

from functools import cached_property

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

BASE = -1  # the rank of a symbol that BPE starts from
NEVER = np.iinfo(np.int64).max >> 2


class Pairs:
    """The derivation of each token and the rule of neighbours.

    Attributes:
        rank: When each token is made: the rank of its last merge, `BASE` for symbols, `NEVER` for
            tokens that BPE does not make of their own bytes; shape (vocab_size,), int64.
        left: Left part of each token, -1 where there is none; shape (vocab_size,), int64.
        right: Right part, likewise.
    """

    def __init__(self, merges: IntArray, is_symbol: BoolArray, lengths: IntArray) -> None:
        """Derive every token.

        Args:
            merges: Left id, right id and result id by rank, shape (merges, 3), int64.
            is_symbol: Whether BPE starts from this id, shape (vocab_size,), bool.
            lengths: Of each token in bytes, shape (vocab_size,), int64.
        """
        size = len(is_symbol)
        self.num_tokens = size
        self._keys, self._ranks = _sorted_merges(merges, size)
        self.rank: IntArray = np.where(is_symbol, BASE, NEVER).astype(np.int64)
        self.left: IntArray = np.full(size, -1, dtype=np.int64)
        self.right: IntArray = np.full(size, -1, dtype=np.int64)
        rows = np.sort(self._ranks)
        order = rows[np.argsort(lengths[merges[rows, 2]], kind="stable")]
        cuts = np.flatnonzero(np.diff(lengths[merges[order, 2]])) + 1
        for group in np.split(order, cuts):  # parts are shorter than their product
            self._derive(merges, group)

    def _derive(self, merges: IntArray, rows: IntArray) -> None:
        left, right, result = merges[rows].T
        possible = (self.rank[left] != NEVER) & (self.rank[right] != NEVER)
        possible &= self.rank[result] == NEVER
        rows, left, right, result = (a[possible] for a in (rows, left, right, result))
        holds = self._meet(left, right)
        rows, left, right, result = (a[holds] for a in (rows, left, right, result))
        # by falling rank, so that the lowest rank is written last and stays
        self.rank[result[::-1]] = rows[::-1]
        self.left[result[::-1]] = left[::-1]
        self.right[result[::-1]] = right[::-1]

    def _merge_rank(self, left: IntArray, right: IntArray) -> IntArray:
        if not len(self._keys):
            return np.full(len(left), NEVER)
        keys = left * self.num_tokens + right
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, self._ranks[at], NEVER)

    def _meet(self, left: IntArray, right: IntArray) -> BoolArray:
        """Return whether BPE comes to these two tokens; their own merge is left out."""
        a, b = left.copy(), right.copy()
        limit_a, limit_b = np.full(len(a), NEVER), np.full(len(a), NEVER)
        holds = np.ones(len(a), dtype=bool)
        active = np.arange(len(a))
        is_first = True
        while len(active):
            if not is_first:
                merge = self._merge_rank(a[active], b[active])
                fails = (merge < limit_a[active]) & (merge <= limit_b[active])
                holds[active[fails]] = False
                active = active[~fails]
            is_first = False
            rank_a, rank_b = self.rank[a[active]], self.rank[b[active]]
            open_ = (rank_a != BASE) | (rank_b != BASE)
            active, rank_a, rank_b = active[open_], rank_a[open_], rank_b[open_]
            undo_b = rank_b >= rank_a  # the later merge is undone; of equal ones the right one
            to_b, to_a = active[undo_b], active[~undo_b]
            limit_b[to_b], b[to_b] = rank_b[undo_b], self.left[b[to_b]]
            limit_a[to_a], a[to_a] = rank_a[~undo_b], self.right[a[to_a]]
        return holds

    @property
    def is_built(self) -> BoolArray:
        """Whether BPE makes each token of its own bytes, shape (vocab_size,), bool."""
        built: BoolArray = self.rank != NEVER
        return built

    @cached_property
    def _forest(self) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """Tokens in the order of a walk through the forest of left parts.

        Returns:
            Place of each token and end of its subtree, shape (vocab_size,); children of all tokens
            by parent and rank, and their sort keys, shape (children,).
        """
        children = np.flatnonzero(self.left >= 0)
        stride = len(self._ranks) + 2 + int(self._ranks.max(initial=0))
        keys = self.left[children] * stride + self.rank[children]
        order = np.argsort(keys, kind="stable")
        children, keys = children[order], keys[order]
        self._stride = stride
        first = np.searchsorted(self.left[children], np.arange(self.num_tokens + 1))
        place = np.zeros(self.num_tokens, dtype=np.int64)
        end = np.zeros(self.num_tokens, dtype=np.int64)
        listed = children.tolist()
        bounds = first.tolist()
        counter = 0
        for root in np.flatnonzero(self.left < 0).tolist():
            stack = [root]
            while stack:
                token = stack.pop()
                if token < 0:
                    end[~token] = counter
                    continue
                place[token] = counter
                counter += 1
                stack.append(~token)
                stack.extend(reversed(listed[bounds[token] : bounds[token + 1]]))
        return place, end, children, keys

    def may_stand(self, left: int, right: int) -> bool:
        """Return whether BPE leaves two tokens apart that it makes."""
        rank, keys = self.rank, self._keys
        a, b, limit_a, limit_b = left, right, int(NEVER), int(NEVER)
        if rank[a] == NEVER or rank[b] == NEVER:
            return False
        while True:
            key = a * self.num_tokens + b
            at = int(np.searchsorted(keys, key))
            if at < len(keys) and keys[at] == key:
                merge = int(self._ranks[at])
                if merge < limit_a and merge <= limit_b:
                    return False
            rank_a, rank_b = int(rank[a]), int(rank[b])
            if rank_a == BASE and rank_b == BASE:
                return True
            if rank_b >= rank_a:  # the later merge is undone
                limit_b, b = rank_b, int(self.left[b])
            else:
                limit_a, a = rank_a, int(self.right[a])

    def valid_after(self, left: int) -> BoolArray:
        """Return which tokens BPE leaves apart from `left` in front of them.

        Args:
            left: A token id.
        Returns:
            Shape (vocab_size,), bool; False for tokens that BPE does not make.
        """
        if self.rank[left] == NEVER:
            return np.zeros(self.num_tokens, dtype=bool)
        place, end, children, child_keys = self._forest
        change = np.zeros(self.num_tokens + 1, dtype=np.int64)
        part, limit = left, int(NEVER)
        while True:
            own = int(self.rank[part])
            low, high = np.searchsorted(
                self._keys, [part * self.num_tokens, (part + 1) * self.num_tokens]
            )
            rights = self._keys[low:high] - part * self.num_tokens
            ranks = self._ranks[low:high]
            fits = (ranks < limit) & (self.rank[rights] < limit)
            rights, ranks = rights[fits], ranks[fits]
            np.add.at(change, place[rights], 1)
            np.add.at(change, place[rights] + 1, -1)
            # larger tokens on the same left edge: the one above must come no earlier
            at_least = np.maximum(ranks, own)
            child = np.searchsorted(child_keys, rights * self._stride + at_least)
            inside = child < len(children)
            rights, child = rights[inside], children[child[inside]]
            same = self.left[child] == rights
            np.add.at(change, place[child[same]], 1)
            np.add.at(change, end[rights[same]], -1)
            if own == BASE:
                break
            limit, part = own, int(self.right[part])
        fails: BoolArray = np.cumsum(change)[place] > 0
        return ~fails & self.is_built


def _sorted_merges(merges: IntArray, size: int) -> tuple[IntArray, IntArray]:
    """Return the pairs as sorted keys with their ranks; of equal pairs the last counts."""
    keys = merges[:, 0] * size + merges[:, 1]
    order = np.argsort(keys, kind="stable")
    last = np.append(keys[order][1:] != keys[order][:-1], True)[: len(order)]
    ranks = order[last].astype(np.int64)
    return keys[ranks], ranks
