"""Replay of a merge list over the pretokens of several categories of text at once.

Keeps, for every merge, by how much it changed the count of every pair in every category, so that
the counts at the time of each merge can be walked through again for any mixture.

Cost: array operations over the occurrences of each merge; memory in proportion to the changes.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jeton.audit.evidence import FloatArray, IntArray


@dataclass(frozen=True)
class ReplayLog:
    """Pair counts at the time of each merge.

    Attributes:
        pairs: Left and right id of every pair met, shape (pairs, 2), int64.
        merged: Index in `pairs` of each merge, -1 where it occurs in no category; shape (merges,).
        start: Count of each pair before the first merge, shape (pairs, categories), float64.
        changes: For each merge, the pairs whose counts it changes and by how much: shapes
            (changed,) and (changed, categories).
    """

    pairs: IntArray
    merged: IntArray
    start: FloatArray
    changes: list[tuple[npt.NDArray[np.int64], FloatArray]]

    def walk(self) -> Iterator[tuple[int, FloatArray, npt.NDArray[np.int64]]]:
        """Yield each merge, the counts just before it, and the pairs that changed since the last.

        The array of counts is the same one each time and changes in place.
        """
        counts = self.start.copy()
        changed = np.arange(len(self.pairs))
        for step, (ids, deltas) in enumerate(self.changes):
            yield step, counts, changed
            counts[ids] += deltas
            changed = ids


def replay(
    categories: Sequence[Counter[bytes]], byte_ids: Sequence[int], merges: IntArray
) -> ReplayLog:
    """Apply merges in order and note what each changes.

    Args:
        categories: Pretokens of each category with their counts.
        byte_ids: Id of each byte, 256 of them.
        merges: Left id, right id and result id by rank, shape (merges, 3), int64.
    """
    state = _State(categories, byte_ids, int(merges.max(initial=0)) + 1)
    start = state.counts[: state.num_pairs].copy()
    merged, changes = [], []
    for left, right, result in merges.tolist():
        merged.append(state.index.get(left * state.num_ids + right, -1))
        changes.append(state.merge(left, right, result))
    keys = np.array(list(state.index), dtype=np.int64)
    return ReplayLog(
        pairs=np.stack([keys // state.num_ids, keys % state.num_ids], axis=1),
        merged=np.array(merged, dtype=np.int64),
        start=np.concatenate([start, np.zeros((len(keys) - len(start), len(categories)))]),
        changes=changes,
    )


class _State:
    """Words as linked lists of symbols in flat arrays; an edge is named by its left end."""

    def __init__(
        self, categories: Sequence[Counter[bytes]], byte_ids: Sequence[int], num_ids: int
    ) -> None:
        words = sorted(set().union(*categories))
        self.num_ids = max(num_ids, max(byte_ids) + 1)
        lengths = np.array([len(word) for word in words], dtype=np.int64)
        data = np.frombuffer(b"".join(words), dtype=np.uint8)
        self._symbols = np.asarray(byte_ids, dtype=np.int64)[data]
        ends = np.cumsum(lengths)
        positions = np.arange(len(data), dtype=np.int64)
        self._next, self._before = positions + 1, positions - 1
        self._next[ends - 1] = -1
        self._before[ends - lengths] = -1
        weights = np.array([[c[word] for c in categories] for word in words], dtype=np.float64)
        self._weights = weights.reshape(len(words), len(categories))
        self._word = np.repeat(np.arange(len(words)), lengths)
        self.index: dict[int, int] = {}
        self.counts: FloatArray = np.zeros((1024, len(categories)))
        self._places: list[list[IntArray]] = []
        edges = np.flatnonzero(self._next >= 0)
        self._change(edges[:0], edges[:0], edges)

    @property
    def num_pairs(self) -> int:
        """Pairs met so far."""
        return len(self.index)

    def merge(self, left: int, right: int, result: int) -> tuple[npt.NDArray[np.int64], FloatArray]:
        """Merge a pair everywhere; return the changed pairs and by how much."""
        places = self._places_of(left, right)
        nexts = self._next[places]
        removed = np.concatenate([self._before[places], places, nexts[self._next[nexts] >= 0]])
        removed = np.unique(removed[removed >= 0])
        old_keys = self._keys(removed)
        after = self._next[nexts]
        self._symbols[places] = result
        self._symbols[nexts] = -1
        self._next[places] = after
        self._before[after[after >= 0]] = places[after >= 0]
        added = np.concatenate([self._before[places], places[self._next[places] >= 0]])
        return self._change(removed, old_keys, np.unique(added[added >= 0]))

    def _places_of(self, left: int, right: int) -> IntArray:
        """Return where a pair stands, without overlaps, leftmost first; it is forgotten."""
        pair = self.index.get(left * self.num_ids + right)
        if pair is None or not self._places[pair]:
            return np.zeros(0, dtype=np.int64)
        places = np.unique(np.concatenate(self._places[pair]))
        self._places[pair] = []
        nexts = self._next[places]
        holds = (self._symbols[places] == left) & (nexts >= 0)
        holds &= self._symbols[nexts] == right
        places, nexts = places[holds], nexts[holds]
        if left == right and len(places):
            is_new = np.r_[True, nexts[:-1] != places[1:]]
            at = np.arange(len(places))
            starts = np.maximum.accumulate(np.where(is_new, at, 0))
            places = places[(at - starts) % 2 == 0]  # of a run, every second
        found: IntArray = places
        return found

    def _keys(self, edges: IntArray) -> IntArray:
        keys: IntArray = self._symbols[edges] * self.num_ids + self._symbols[self._next[edges]]
        return keys

    def _change(
        self, removed: IntArray, old_keys: IntArray, added: IntArray
    ) -> tuple[npt.NDArray[np.int64], FloatArray]:
        """Count edges out and in, and note where the new ones stand."""
        new_keys = self._keys(added)
        keys, where = np.unique(np.concatenate([old_keys, new_keys]), return_inverse=True)
        edges = np.concatenate([removed, added])
        weights = self._weights[self._word[edges]]
        weights[: len(removed)] *= -1
        columns = [np.bincount(where, column, minlength=len(keys)) for column in weights.T]
        deltas: FloatArray = np.stack(columns, axis=1).astype(np.float64)
        listed = keys.tolist()
        ids = np.array([self.index.setdefault(key, len(self.index)) for key in listed], np.int64)
        while len(self.counts) < len(self.index):
            self.counts = np.concatenate([self.counts, np.zeros_like(self.counts)])
        self.counts[ids] += deltas
        self._places += [[] for _ in range(len(self.index) - len(self._places))]
        order = np.argsort(where[len(removed) :], kind="stable")
        ordered = where[len(removed) :][order]
        bounds = np.flatnonzero(np.diff(ordered)) + 1
        for part in np.split(order, bounds):
            if len(part):
                self._places[ids[where[len(removed) + part[0]]]].append(added[part])
        return ids, deltas
