"""Ways to cut words into pieces: the best one, and the expected uses of each piece over all.

A `PieceTrie` holds pieces and their scores; words are counted bytes. Ties go to the piece that
starts first, as in the encoder of Hugging Face `tokenizers`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jeton.core.compiling import compiled
from jeton.learn.packed import PackedCounts

_LOWEST = -1e300


@compiled
def _child_slot(node: Any, byte: Any, keys: Any) -> Any:
    """Return the slot of the edge of a node for a byte, or the empty slot where it would stand."""
    key = node * 256 + byte
    mask = len(keys) - 1
    slot = ((key * 0x9E3779B1) ^ (key >> 11)) & mask
    while keys[slot] != key and keys[slot] != -1:
        slot = (slot + 1) & mask
    return slot


@compiled
def _insert(data: Any, ends: Any, keys: Any, nodes: Any, piece_of: Any) -> None:
    """Fill an empty trie; node 0 is the root."""
    num_nodes = 1
    start = 0
    for piece in range(len(ends)):
        node = 0
        for k in range(start, ends[piece]):
            slot = _child_slot(node, np.int64(data[k]), keys)
            if keys[slot] == -1:
                keys[slot] = node * 256 + np.int64(data[k])
                nodes[slot] = num_nodes
                num_nodes += 1
            node = nodes[slot]
        piece_of[node] = piece
        start = ends[piece]


@compiled
def _best_cuts(
    data: Any, ends: Any, skips_whole: Any, scores: Any, keys: Any, nodes: Any, piece_of: Any,
    best: Any, came: Any, out: Any, out_ends: Any,
) -> Any:  # fmt: skip
    """Write the pieces of the best cut of each word; return how many there are in all."""
    start = 0
    total = 0
    for word in range(len(ends)):
        size = ends[word] - start
        for k in range(size + 1):
            best[k] = _LOWEST
            came[k] = -1
        best[0] = 0.0
        for i in range(size):
            if best[i] == _LOWEST:
                continue
            node = 0
            for j in range(i, size):
                slot = _child_slot(node, np.int64(data[start + j]), keys)
                if keys[slot] == -1:
                    break
                node = nodes[slot]
                piece = piece_of[node]
                if piece < 0 or (skips_whole and i == 0 and j + 1 == size):
                    continue
                score = best[i] + scores[piece]
                if came[j + 1] < 0 or score > best[j + 1]:
                    best[j + 1] = score
                    came[j + 1] = i * 4294967296 + piece
        first = total
        at = size
        while at > 0 and came[at] >= 0:
            out[total] = came[at] & 4294967295
            total += 1
            at = came[at] >> 32
        if at > 0:
            total = first  # the word has no cut
        for k in range((total - first) // 2):
            out[first + k], out[total - 1 - k] = out[total - 1 - k], out[first + k]
        out_ends[word] = total
        start = ends[word]
    return total


@compiled
def _add_expected(
    data: Any, ends: Any, counts: Any, scores: Any, keys: Any, nodes: Any, piece_of: Any,
    before: Any, after: Any, expected: Any,
) -> Any:  # fmt: skip
    """Add the expected uses of each piece; return the logarithm of the text's probability."""
    start = 0
    total = 0.0
    for word in range(len(ends)):
        size = ends[word] - start
        for k in range(size + 1):
            before[k] = _LOWEST
            after[k] = _LOWEST
        before[0] = 0.0
        after[size] = 0.0
        for backwards in (True, False):
            for step in range(size):
                i = size - 1 - step if backwards else step
                node = 0
                for j in range(i, size):
                    slot = _child_slot(node, np.int64(data[start + j]), keys)
                    if keys[slot] == -1:
                        break
                    node = nodes[slot]
                    piece = piece_of[node]
                    if piece < 0:
                        continue
                    if backwards:
                        value = scores[piece] + after[j + 1]
                        high, low = max(after[i], value), min(after[i], value)
                        after[i] = high + np.log1p(np.exp(low - high)) if low > _LOWEST else high
                    else:
                        value = before[i] + scores[piece]
                        high, low = max(before[j + 1], value), min(before[j + 1], value)
                        if low > _LOWEST:
                            high += np.log1p(np.exp(low - high))
                        before[j + 1] = high
                        use = value + after[j + 1] - after[0]
                        expected[piece] += counts[word] * np.exp(use)
        total += counts[word] * after[0]
        start = ends[word]
    return total


class PieceTrie:
    """Pieces with scores.

    Args:
        pieces: Bytes of each piece; no two are equal and none is empty.
        scores: Score of each piece, shape (pieces,), float64.
    """

    def __init__(self, pieces: Sequence[bytes], scores: NDArray[np.float64]) -> None:
        self.scores = np.asarray(scores, dtype=np.float64)
        packed = PackedCounts.pack(dict.fromkeys(pieces, 1))
        num_nodes = len(packed.data) + 1
        self._keys: NDArray[np.int64] = np.full(1 << (2 * num_nodes).bit_length(), -1)
        self._nodes = np.zeros(len(self._keys), dtype=np.int64)
        self._piece_of: NDArray[np.int64] = np.full(num_nodes, -1)
        _insert(packed.data, packed.ends, self._keys, self._nodes, self._piece_of)

    def _arrays(self) -> tuple[Any, ...]:
        return self.scores, self._keys, self._nodes, self._piece_of

    def best_cuts(
        self, words: PackedCounts, *, skips_whole: bool = False
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the pieces of the best cut of each word, and where each word's end.

        Args:
            words: Words; their counts do not matter.
            skips_whole: Whether a piece that is the whole word must not be used.
        """
        room = _longest(words) + 1
        out = np.zeros(len(words.data) + 1, dtype=np.int64)
        out_ends = np.zeros(len(words), dtype=np.int64)
        total = _best_cuts(
            *(words.data, words.ends, skips_whole, *self._arrays()),
            *(np.zeros(room), np.zeros(room, dtype=np.int64), out, out_ends),
        )
        return out[:total], out_ends

    def uses(self, words: PackedCounts) -> NDArray[np.int64]:
        """Return how often each piece is used when every word is cut best, shape (pieces,)."""
        pieces, ends = self.best_cuts(words)
        weights = np.repeat(words.values_array, np.diff(ends, prepend=0))
        total = np.zeros(len(self.scores), dtype=np.int64)
        np.add.at(total, pieces, weights)
        return total

    def expected_uses(self, words: PackedCounts) -> tuple[NDArray[np.float64], float]:
        """Return the expected uses of each piece over all cuts, and the text's log-probability."""
        room = _longest(words) + 1
        expected = np.zeros(len(self.scores))
        total = _add_expected(
            *(words.data, words.ends, words.values_array, *self._arrays()),
            *(np.zeros(room), np.zeros(room), expected),
        )
        return expected, float(total)


def _longest(words: PackedCounts) -> int:
    return int(np.diff(words.ends, prepend=0).max(initial=0))
