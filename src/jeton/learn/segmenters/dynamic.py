"""Dynamic tokenization: join the most frequent neighbours of a batch, as often as asked for.

Source: Feher et al. 2025, https://arxiv.org/abs/2411.18553, section 3: m times, the most frequent
valid pair of the batch becomes a token everywhere in it; its embedding comes from a hypernetwork.
Differs from the source: the embedding is left to the caller, to whom `parts` says what each new
token was made of; counts are kept up to date instead of counted anew for each merge.
Cost: one short pass over the batch for each merge.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError
from jeton.learn.compiling import compiled
from jeton.learn.segmentation import Segmentation
from jeton.learn.splits import checked, reserved_ids

_SCOPES = ("word", "any")


@dataclass(frozen=True, slots=True)
class Dynamic:
    """Merges for one batch.

    Attributes:
        num_merges: Most merges; it ends before when no pair occurs twice.
        scope: "word": a token joins its left neighbour unless it begins with white space; "any":
            always. Special tokens never join.
    """

    num_merges: int = 200
    scope: str = "word"

    def __post_init__(self) -> None:
        if self.num_merges < 0:
            raise ConfigError(f"num_merges must be 0 or more, got {self.num_merges}")
        if self.scope not in _SCOPES:
            raise ConfigError(f"scope must be one of {', '.join(_SCOPES)}, got {self.scope!r}")

    def segment(
        self,
        vocabulary: Vocabulary,
        documents: Sequence[Sequence[int] | NDArray[np.int64]],
        seed: int = 0,
    ) -> Segmentation:
        """Return the batch with its most frequent pairs joined; ties go to the first seen."""
        batch = checked(documents, vocabulary.vocab_size)
        ids, pairs = self.join(batch, self.joins(vocabulary))
        tokens = list(vocabulary.tokens)
        for left, right in pairs:
            tokens.append(tokens[left] + tokens[right])
        return Segmentation(ids, tuple(tokens[vocabulary.vocab_size :]), tuple(pairs))

    def joins(self, vocabulary: Vocabulary) -> NDArray[np.int64]:
        """Return for each id 0: joins nothing, 1: may end a pair or begin one, 2: only begin."""
        kinds = np.ones(vocabulary.vocab_size, dtype=np.int64)
        if self.scope == "word":
            kinds[[i for i, token in enumerate(vocabulary.tokens) if token[:1].isspace()]] = 2
        kinds[[i for i, token in enumerate(vocabulary.tokens) if not token]] = 0
        kinds[sorted(reserved_ids(vocabulary))] = 0
        return kinds

    def join(
        self, batch: list[NDArray[np.int64]], joins: NDArray[np.int64]
    ) -> tuple[list[NDArray[np.int64]], list[tuple[int, int]]]:
        """Return the batch with pairs joined, and the pairs in order; new ids follow `joins`."""
        border = np.array([-1], dtype=np.int64)
        text = np.concatenate([border, *(part for ids in batch for part in (ids, border))])
        # Each place that is joined makes at most two new pairs.
        slots = 1 << (6 * len(text)).bit_length()
        kinds = np.concatenate([joins, np.zeros(self.num_merges, dtype=np.int64)])
        pairs = np.zeros((self.num_merges, 2), dtype=np.int64)
        keys: NDArray[np.int64] = np.full(slots, -1)
        number, size = _join(
            *(text, kinds, len(joins), pairs, keys, np.zeros(slots, dtype=np.int64)),
            np.zeros(len(text), dtype=np.int64),
        )
        ends = np.flatnonzero(text[:size] == -1)
        found = [text[a + 1 : b].copy() for a, b in pairwise(ends)]
        return found, [(int(a), int(b)) for a, b in pairs[:number]]


@compiled
def _slot(a: Any, b: Any, keys: Any) -> Any:
    key = a * 4294967296 + b
    mask = len(keys) - 1
    slot = ((a * 0x9E3779B1 + b * 0x85EBCA6B) ^ (key >> 17)) & mask
    while keys[slot] != key and keys[slot] != -1:
        slot = (slot + 1) & mask
    return slot


@compiled
def _join(
    text: Any, kinds: Any, first_id: Any, pairs: Any, keys: Any, counts: Any, slot_at: Any
) -> Any:  # fmt: skip
    """Join pairs in place; `slot_at` holds where the pair that starts at a place is counted."""
    size = len(text)
    for i in range(size - 1):
        slot_at[i] = -1
        a, b = text[i], text[i + 1]
        if a >= 0 and b >= 0 and kinds[a] > 0 and kinds[b] == 1:
            slot = _slot(a, b, keys)
            keys[slot] = a * 4294967296 + b
            counts[slot] += 1
            slot_at[i] = slot
    slot_at[size - 1] = -1
    for number in range(len(pairs)):
        best, chosen = 1, -1
        for i in range(size):  # the first place of the most frequent pair decides ties
            slot = slot_at[i]
            if slot >= 0 and counts[slot] > best:
                best, chosen = counts[slot], slot
        if chosen < 0:
            return number, size
        a, b = keys[chosen] >> 32, keys[chosen] & 4294967295
        product = first_id + number
        pairs[number, 0], pairs[number, 1] = a, b
        kinds[product] = kinds[a]
        out = 0
        i = 0
        while i < size:
            if slot_at[i] != chosen:
                text[out] = text[i]
                slot_at[out] = slot_at[i]
                out += 1
                i += 1
                continue
            if out > 0 and slot_at[out - 1] >= 0:
                counts[slot_at[out - 1]] -= 1
            counts[chosen] -= 1
            if slot_at[i + 1] >= 0:
                counts[slot_at[i + 1]] -= 1
            text[out] = product
            for where, following in ((out - 1, product), (out, text[i + 2])):
                slot_at[where] = -1
                c = text[where]
                if c >= 0 and following >= 0 and kinds[c] > 0 and kinds[following] == 1:
                    slot = _slot(c, following, keys)
                    keys[slot] = c * 4294967296 + following
                    counts[slot] += 1
                    slot_at[where] = slot
            out += 1
            i += 2
        size = out
    return len(pairs), size
