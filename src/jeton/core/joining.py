"""Join the most frequent neighbours of a batch of ids, as often as asked for.

Feher et al. 2025, https://arxiv.org/abs/2411.18553, section 3: m times, the most frequent valid
pair of the batch becomes a token everywhere in it. Counts are kept up to date instead of counted
anew for each merge.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jeton.core.compiling import compiled
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError

SCOPES = ("word", "any")


def check_joining(num_merges: int, scope: str) -> None:
    """Raise ConfigError unless these can be asked for."""
    if num_merges < 0:
        raise ConfigError(f"num_merges must be 0 or more, got {num_merges}")
    if scope not in SCOPES:
        raise ConfigError(f"scope must be one of {', '.join(SCOPES)}, got {scope!r}")


def joins_of(vocabulary: Vocabulary, scope: str) -> NDArray[np.int64]:
    """Return for each id 0: joins nothing, 1: may end a pair or begin one, 2: only begin.

    Args:
        vocabulary: Its special and added tokens join nothing.
        scope: "word": a token joins its left neighbour unless it begins with white space; "any":
            always.
    """
    kinds = np.ones(vocabulary.vocab_size, dtype=np.int64)
    if scope == "word":
        kinds[[i for i, token in enumerate(vocabulary.tokens) if token[:1].isspace()]] = 2
    kinds[[i for i, token in enumerate(vocabulary.tokens) if not token]] = 0
    kinds[sorted({*vocabulary.special_tokens.values(), *vocabulary.added_tokens.values()})] = 0
    return kinds


def join_pairs(
    batch: Sequence[NDArray[np.int64]], joins: NDArray[np.int64], num_merges: int
) -> tuple[list[NDArray[np.int64]], list[tuple[int, int]]]:
    """Return the batch with its most frequent pairs joined; ties go to the first seen.

    It ends before `num_merges` when no pair occurs twice.

    Args:
        batch: Ids of each document, shape (seq,), 0 <= id < len(joins); not changed.
        joins: See `joins_of`.
        num_merges: Most merges.
    Returns:
        The documents, and the pairs in order; pair k makes the id len(joins) + k.
    """
    border = np.array([-1], dtype=np.int64)
    text = np.concatenate([border, *(part for ids in batch for part in (ids, border))])
    # Each place that is joined makes at most two new pairs.
    slots = 1 << (6 * len(text)).bit_length()
    kinds = np.concatenate([joins, np.zeros(num_merges, dtype=np.int64)])
    pairs = np.zeros((num_merges, 2), dtype=np.int64)
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
