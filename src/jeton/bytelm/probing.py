"""Which tokens may follow, found by asking the tokenizer: for tokenizers that no rule knows.

A token may follow if for some continuation the tokenizer itself writes the last tokens and this
one. Only a few continuations are tried, one for each kind of character, so that in principle a
sequence can be missed; a text that it happens to is found out when it is scored.
"""

from collections.abc import Hashable
from functools import lru_cache

import numpy as np

from jeton.bytelm.contract import Bits
from jeton.core.vocabulary import Vocabulary

_PROBES = (b"", b"x", b" ", b"\n", b"1", b".", b" x", b"'")
_TAIL = 3  # tokens that are written again; 2 miss some runs of white space
_BATCH = 4096


class ProbingRule:
    """Encodes the last tokens with every candidate.

    Cost: up to eight encodings of some bytes for each token of the vocabulary and each new tail.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._candidates = np.flatnonzero(vocabulary.lengths > 0)
        self._packed = lru_cache(maxsize=512)(self._pack)

    def start(self) -> Hashable:
        """Return the state before the first token."""
        return ()

    def step(self, state: Hashable, token_id: int) -> Hashable:
        """Return the last tokens."""
        return (*_checked(state), token_id)[-_TAIL:]

    def mask(self, state: Hashable) -> tuple[Bits | None, bool]:
        """Return which tokens may follow, packed, and whether the text may end."""
        tail = _checked(state)
        return self._packed(tail), self._is_written(tail, (b"",))

    def _pack(self, tail: tuple[int, ...]) -> Bits:
        mask = np.zeros(self._vocabulary.vocab_size, dtype=bool)
        left = self._candidates
        for probe in _PROBES:
            found = []
            for start in range(0, len(left), _BATCH):
                ids = left[start : start + _BATCH].tolist()
                found += self._are_written([(*tail, i) for i in ids], probe)
            hits = np.array(found, dtype=bool)
            mask[left[hits]] = True
            left = left[~hits]
            if not len(left):
                break
        return np.packbits(mask)

    def _are_written(self, paths: list[tuple[int, ...]], probe: bytes) -> list[bool]:
        return [self._is_written(path, (probe,)) for path in paths]

    def _is_written(self, path: tuple[int, ...], probes: tuple[bytes, ...]) -> bool:
        vocabulary = self._vocabulary
        data = vocabulary.decode(path)
        ends = [len(vocabulary.decode(path[: i + 1])) for i in range(len(path))]
        for probe in probes:
            ids = vocabulary.encode_lossy(data + probe)
            size = len(vocabulary.decode(ids))
            if size != len(data) + len(probe):
                continue
            found = set(vocabulary.token_offsets(ids).tolist())
            if found.issuperset(end for end in ends if end):
                return True
        return not path


def _checked(state: Hashable) -> tuple[int, ...]:
    assert isinstance(state, tuple)
    return state
