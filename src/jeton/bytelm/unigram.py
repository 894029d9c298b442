"""Which tokens may follow where the tokenizer takes the most probable segmentation (Unigram).

A sequence of pieces is the encoding of its own text exactly when no other segmentation scores
higher, so a piece may follow when the best segmentation of the longer text ends with it. Better
ones use a piece that spans the end of what is written: these are looked up, by what they add
behind it. Ties are allowed, so that the tokenizer's own choice is always there. Byte tokens spell
the characters that are no pieces, also where a longer piece would hold one.
"""

import json
import math
from collections.abc import Hashable
from functools import lru_cache

import numpy as np

from jeton.bytelm.contract import Bits, BoolArray, FloatArray
from jeton.bytelm.cuts import make_scanner
from jeton.core.byte_index import ByteIndex
from jeton.core.vocabulary import TokenKind, Vocabulary

_TOLERANCE = 1e-4  # scores are float32 in the files; sums of ten of them differ by less
_CACHE_BYTES = 1 << 26
# The word so far, best scores at its places less the last, the byte tokens since.
State = tuple[bytes, tuple[float, ...], bytes]


class UnigramRule:
    """The rule of Viterbi segmentation; words are segmented each on its own.

    Cost: some milliseconds whenever a new beginning of a word is met.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Take the scores of a tokenizer.json.

        Raises:
            UnknownPattern: the pre-tokenizer has a step that is not known.
        """
        scanner, _ = make_scanner(vocabulary)
        self._splits = bool(scanner.levels)  # every space begins a word
        self._vocabulary = vocabulary
        index = self._index = ByteIndex(vocabulary)
        self._tokens = [vocabulary.tokens[i] for i in index.ids.tolist()]
        rows = json.loads(vocabulary.tokenizer_json or "{}")["model"]["vocab"]
        scores = np.full(vocabulary.vocab_size, -np.inf)
        scores[: len(rows)] = [float(score) for _, score in rows]
        kinds = vocabulary.kinds[index.ids]
        counts = (kinds == TokenKind.TEXT) | (kinds == TokenKind.ADDED)
        self._score = np.where(counts, scores[index.ids], -np.inf)
        self._best: dict[bytes, float] = {}
        for token, score in zip(self._tokens, self._score.tolist(), strict=True):
            self._best[token] = max(score, self._best.get(token, -math.inf))
        self._longest = max(map(len, self._tokens))
        self._starts = np.concatenate(([0], np.cumsum(index.lengths + 1)))[:-1]
        self._inner = self._best_of_rests()
        whole = self._inner[self._starts]
        self._is_own = counts & (self._score >= whole - _TOLERANCE)
        if self._splits:
            self._is_own &= np.array([b" " not in token[1:] for token in self._tokens])
        places = np.flatnonzero(kinds == TokenKind.BYTE).tolist()
        self._byte_places = {self._tokens[place]: place for place in places}
        self._characters = {
            token
            for token, score in self._best.items()
            if score > -math.inf and _is_character(token)
        }
        self._packed = lru_cache(maxsize=4096)(self._pack)

    def _best_of_rests(self) -> FloatArray:
        """Return the best score of each rest of each token, shape (bytes + tokens,)."""
        known, found = self._best, []
        for token in self._tokens:
            size = len(token)
            best = [-math.inf] * size + [0.0]
            for start in range(size - 1, -1, -1):
                for end in range(start + 1, size + 1):
                    if best[end] > -math.inf:
                        score = known.get(token[start:end])
                        if score is not None and score + best[end] > best[start]:
                            best[start] = score + best[end]
            found += best
        return np.array(found)

    def start(self) -> Hashable:
        """Return the state before the first token."""
        return b"", (0.0,), b""

    def step(self, state: Hashable, token_id: int) -> Hashable:
        """Return the state after one more token."""
        word, deltas, spelled = _checked(state)
        token = self._vocabulary.tokens[token_id]
        if self._splits and token[:1] == b" ":
            word, deltas = b"", (0.0,)
        if self._vocabulary.kinds[token_id] == TokenKind.BYTE:
            return b"", (0.0,), (spelled + token)[-3:]
        data, best = word + token, [*deltas, *[-math.inf] * len(token)]
        for end in range(len(word) + 1, len(data) + 1):
            for start in range(max(0, end - self._longest), end):
                score = self._best.get(data[start:end])
                if score is not None and score + best[start] > best[end]:
                    best[end] = score + best[start]
        kept = max(0, len(data) - self._longest + 1)
        last = best[-1]
        return data[kept:], tuple(round(score - last, 9) for score in best[kept:]), b""

    def mask(self, state: Hashable) -> tuple[Bits | None, bool]:
        """Return which tokens may follow, packed, and that the text may end."""
        return self._packed(_checked(state)), True

    def _pack(self, state: State) -> Bits:
        word, deltas, spelled = state
        allowed = self._is_own.copy()
        for place, delta in enumerate(deltas[:-1]):
            if delta > -math.inf:
                self._forbid(allowed, word[place:], delta)
        for byte, place in self._byte_places.items():
            endings = (spelled[start:] + byte for start in range(len(spelled) + 1))
            allowed[place] = self._characters.isdisjoint(endings)
        mask = np.zeros(self._vocabulary.vocab_size, dtype=bool)
        mask[self._index.ids] = allowed
        return np.packbits(mask)

    def _forbid(self, allowed: BoolArray, end: bytes, delta: float) -> None:
        """Forbid tokens behind which a piece that begins with `end` makes something better."""
        low, high = self._index.prefix_range(end)
        for at in range(low, high):
            rest = self._tokens[at][len(end) :]
            if not rest or not self._score[at] > -math.inf or (self._splits and b" " in rest):
                continue
            first, last = self._index.prefix_range(rest)
            if first < last:
                other = delta + self._score[at] + self._inner[self._starts[first:last] + len(rest)]
                allowed[first:last] &= other <= self._score[first:last] + _TOLERANCE


def _is_character(token: bytes) -> bool:
    try:
        return len(token.decode()) == 1
    except UnicodeDecodeError:
        return False


def _checked(state: Hashable) -> State:
    assert isinstance(state, tuple)
    return state
