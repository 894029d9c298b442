"""Which tokens may follow where the tokenizer always takes the longest match, as RWKV World does.

A token that is the beginning of longer ones may stand only if the text does not go on to complete
one of them. What must not be completed is the state.
"""

from collections.abc import Hashable
from functools import lru_cache

import numpy as np

from jeton.bytelm.contract import Bits
from jeton.core.byte_index import ByteIndex
from jeton.core.vocabulary import Vocabulary

Pending = frozenset[bytes]
_CACHE_BYTES = 1 << 26


class LongestMatchRule:
    """The exact rule of greedy longest match over bytes.

    Cost: a look at every longer token the first time a set of pending ones is met.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._index = ByteIndex(vocabulary)
        self._tokens = [vocabulary.tokens[i] for i in self._index.ids.tolist()]
        self._known = frozenset(self._tokens)
        is_first = np.ones(len(self._tokens), dtype=bool)  # of equal tokens the lowest id is taken
        is_first[1:] = [a != b for a, b in zip(self._tokens, self._tokens[1:], strict=False)]
        self._is_first = is_first
        size = max(64, min(8192, _CACHE_BYTES * 8 // max(1, vocabulary.vocab_size)))
        self._packed = lru_cache(maxsize=size)(self._pack)

    def start(self) -> Hashable:
        """Return the state before the first token."""
        return frozenset()

    def step(self, state: Hashable, token_id: int) -> Hashable:
        """Return what must not be completed after one more token; None if it was."""
        token = self._vocabulary.tokens[token_id]
        if state is None or not token:
            return None
        pending = set()
        for begun in _checked(state):
            whole = begun + token
            if any(whole[:end] in self._known for end in range(len(begun) + 1, len(whole) + 1)):
                return None
            pending.add(whole)
        pending.add(token)
        return frozenset(p for p in pending if self._has_longer(p))

    def _has_longer(self, token: bytes) -> bool:
        low, high = self._index.prefix_range(token)
        return low < high and len(self._tokens[high - 1]) > len(token)

    def mask(self, state: Hashable) -> tuple[Bits | None, bool]:
        """Return which tokens may follow, packed, and whether the text may end."""
        if state is None:
            return np.zeros(-(-self._vocabulary.vocab_size // 8), dtype=np.uint8), False
        return self._packed(_checked(state)), True

    def _pack(self, pending: Pending) -> Bits:
        allowed = self._is_first.copy()
        for begun in sorted(pending):
            low, high = self._index.prefix_range(begun)
            shortest = b""
            for token in self._tokens[low:high]:
                rest = token[len(begun) :]
                if not rest or (shortest and rest.startswith(shortest)):
                    continue
                shortest = rest
                first, last = self._index.prefix_range(rest)
                allowed[first:last] = False
        mask = np.zeros(self._vocabulary.vocab_size, dtype=bool)
        mask[self._index.ids] = allowed
        return np.packbits(mask)


def _checked(state: Hashable) -> Pending:
    assert isinstance(state, frozenset)
    return state
