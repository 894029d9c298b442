"""The inner loops of the merge engine, compiled by numba where it is installed.

Imported only when an engine is made. Each function works on numpy arrays (compiled) and on lists
(plain Python) alike and gives the same result; all arithmetic stays within int64.

The text lies in `sym`, one place for each byte. A token of n bytes stands at the first and at the
last of its n places, so that both neighbours are found without links; the place where a merged
right part began holds GONE. All places of a pair arise in one step, that of its newer part, and
are kept as one ascending run in `opos`. Parameter names:

    meta                          scalars, see the constants below
    sym, word, weight             the text: symbols, word of each place, count of each word
    pkey, pcount, pstart, pnum, ppend, prank   pairs: parts, count, places, new places, rule
    tkey, tpair                   open addressing, parts -> index of the pair
    opos, npair, npos             places by pair; new places of this step
    touched                       pairs with new places
    near, nlist                   neighbours of this step's places: step and whether an earlier
                                  rule applies, pair, sum of counts, places; left, then right
    hcount, hpair                 a binary max-heap of (count, pair)
    tstart, tlen, tsize, tban, tspan   tokens: place in `tdata`, bytes, size for the limit, is
                                  banned, places in the text
    tdata, ttable                 bytes of all tokens; open addressing, content -> id
    rpair, rprod, rcount, rtotal  rules in order: pair, product, count when applied, tokens after
"""

from typing import Any

from jeton.core.compiling import F, compiled, inlined

# Slots of `meta`.
PAIRS, OCCURRENCES, HEAP, TOKENS, DATA, RULES, FORCED, TOTAL = 0, 1, 2, 3, 4, 5, 6, 7
PHASE, CURRENT, ENTRY, TOUCHED, CANDIDATE, APPLIED, MIN_COUNT = 8, 9, 10, 11, 12, 13, 14
MAX_SIZE, REAPPLY, LONGEST, MAX_TOKENS, MAX_RULES, CHECK = 15, 16, 17, 18, 19, 20
NEW, LEFTS, RIGHTS, STEP, NUM_META = 21, 22, 23, 24, 25
# Phases, so that a call that ran out of room goes on where it stopped.
CHOOSE, ACCEPT, APPLY, PUSH = 0, 1, 2, 3
# Return codes.
DONE, NEED_ROOM, EXHAUSTED, CANDIDATE_FOUND = 0, 1, 2, 3
# What stands in `sym` besides ids: a byte without a token, the inside of a token, a word's border.
NO_TOKEN, GONE, BORDER = -1, -2, -3


def _wide(value: Any) -> Any:
    """Return an element as int64, so that each kernel is compiled for one type only."""
    return value + 0


def _slot_of(key: Any, tkey: Any) -> Any:
    mask = len(tkey) - 1
    mixed = (key >> 32) * 0x9E3779B1 + (key & 0xFFFFFFFF) * 0x85EBCA6B
    slot = (mixed ^ (mixed >> 29)) & mask
    while tkey[slot] != key and tkey[slot] != -1:
        slot = (slot + 1) & mask
    return slot


def _pair_of(
    a: Any, b: Any, meta: Any, pkey: Any, pcount: Any, pnum: Any, prank: Any, tkey: Any, tpair: Any
) -> Any:
    """Return the index of a pair, making it when it is new."""
    key = (a << 32) | b
    slot = slot_of(key, tkey)
    if tkey[slot] == -1:
        index = meta[PAIRS]
        tkey[slot] = key
        tpair[slot] = index
        pkey[index] = key
        pcount[index] = 0
        pnum[index] = 0
        prank[index] = -1
        meta[PAIRS] = index + 1
    return wide(tpair[slot])


def _content_slot(a: Any, b: Any, tstart: Any, tlen: Any, tdata: Any, ttable: Any) -> Any:
    """Return the slot of the token with the bytes of a followed by those of b (-1: of nothing)."""
    len_a = tlen[a]
    len_b = tlen[b] if b >= 0 else 0
    value = 1
    for k in range(len_a):
        value = (value * 263 + tdata[tstart[a] + k] + 1) % 2147483647
    for k in range(len_b):
        value = (value * 263 + tdata[tstart[b] + k] + 1) % 2147483647
    mask = len(ttable) - 1
    slot = (value ^ (value >> 15)) & mask
    while ttable[slot] >= 0:
        other = wide(ttable[slot])
        is_same = tlen[other] == len_a + len_b
        k = 0
        while is_same and k < len_a + len_b:
            byte = tdata[tstart[a] + k] if k < len_a else tdata[tstart[b] + k - len_a]
            is_same = tdata[tstart[other] + k] == byte
            k += 1
        if is_same:
            return slot
        slot = (slot + 1) & mask
    return slot


def _is_above(count: Any, p: Any, other_count: Any, q: Any, pkey: Any) -> Any:
    """Order of the heap: higher count first, then the lower pair of ids."""
    if count != other_count:
        return count > other_count
    return pkey[p] < pkey[q]


def _heap_push(count: Any, p: Any, meta: Any, hcount: Any, hpair: Any, pkey: Any) -> None:
    i = meta[HEAP]
    meta[HEAP] = i + 1
    while i > 0:
        up = (i - 1) >> 1
        if not is_above(count, p, hcount[up], wide(hpair[up]), pkey):
            break
        hcount[i] = hcount[up]
        hpair[i] = hpair[up]
        i = up
    hcount[i] = count
    hpair[i] = p


def _heap_replace_top(count: Any, p: Any, size: Any, hcount: Any, hpair: Any, pkey: Any) -> None:
    i = 0
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        if child + 1 < size and is_above(
            hcount[child + 1], wide(hpair[child + 1]), hcount[child], wide(hpair[child]), pkey
        ):
            child += 1
        if not is_above(hcount[child], wide(hpair[child]), count, p, pkey):
            break
        hcount[i] = hcount[child]
        hpair[i] = hpair[child]
        i = child
    hcount[i] = count
    hpair[i] = p


def _pend(
    p: Any, position: Any, meta: Any, npair: Any, npos: Any, ppend: Any, touched: Any
) -> None:
    """Remember a new place of a pair until the step ends."""
    if ppend[p] == 0:
        touched[meta[TOUCHED]] = p
        meta[TOUCHED] += 1
    ppend[p] += 1
    entry = meta[NEW]
    npair[entry] = p
    npos[entry] = position
    meta[NEW] = entry + 1


def _add(
    position: Any, meta: Any, sym: Any, word: Any, weight: Any, pkey: Any, pcount: Any, pnum: Any,
    ppend: Any, prank: Any, tkey: Any, tpair: Any, npair: Any, npos: Any, touched: Any, tspan: Any,
    tsize: Any,
) -> None:  # fmt: skip
    """Count the pair that starts at a place and remember where it is."""
    a = wide(sym[position])
    if a < 0:
        return
    b = wide(sym[position + tspan[a]])
    if b < 0 or tsize[a] + tsize[b] > meta[MAX_SIZE]:
        return
    p = pair_of(a, b, meta, pkey, pcount, pnum, prank, tkey, tpair)
    pcount[p] += weight[word[position]]
    pend(p, position, meta, npair, npos, ppend, touched)


def _lay_out(symbols: Any, ends: Any, sym: Any, word: Any) -> None:
    """Write the words into the text with a border before and after each."""
    at = 0
    start = 0
    for k in range(len(ends)):
        sym[at] = BORDER
        at += 1
        for i in range(start, ends[k]):
            sym[at] = symbols[i]
            word[at] = k
            at += 1
        start = ends[k]
    sym[at] = BORDER


def _count_first(
    sym: Any, word: Any, weight: Any, tspan: Any, local: Any, width: Any, sums: Any, nums: Any
) -> None:
    """Count the pairs of the untouched text by the numbers that `local` gives to its symbols."""
    position = 1
    while position < len(sym) - 1:
        a = wide(sym[position])
        if a < 0:
            position += 1
            continue
        following = position + tspan[a]
        b = wide(sym[following])
        if b >= 0:
            index = local[a] * width + local[b]
            sums[index] += weight[word[position]]
            nums[index] += 1
        position = following


def _make_first(
    meta: Any, ids: Any, sums: Any, nums: Any, pair_at: Any, pkey: Any, pcount: Any, pstart: Any,
    pnum: Any, prank: Any, tkey: Any, tpair: Any, tsize: Any, hcount: Any, hpair: Any,
) -> None:  # fmt: skip
    """Make the pairs that `count_first` found, leaving their places to `place_first`."""
    width = len(ids)
    for index in range(width * width):
        pair_at[index] = -1
        a = wide(ids[index // width])
        b = wide(ids[index % width])
        if nums[index] == 0 or tsize[a] + tsize[b] > meta[MAX_SIZE]:
            continue
        p = pair_of(a, b, meta, pkey, pcount, pnum, prank, tkey, tpair)
        pair_at[index] = p
        pcount[p] = sums[index]
        pstart[p] = meta[OCCURRENCES]
        meta[OCCURRENCES] += nums[index]
        if meta[REAPPLY] == 0 or prank[p] < 0:
            heap_push(pcount[p], p, meta, hcount, hpair, pkey)


def _place_first(
    sym: Any, tspan: Any, local: Any, width: Any, pair_at: Any, opos: Any, pstart: Any, pnum: Any
) -> None:
    """Write the places of the pairs that `count_first` found."""
    position = 1
    while position < len(sym) - 1:
        a = wide(sym[position])
        if a < 0:
            position += 1
            continue
        following = position + tspan[a]
        b = wide(sym[following])
        if b >= 0:
            p = wide(pair_at[local[a] * width + local[b]])
            if p >= 0:
                opos[pstart[p] + pnum[p]] = position
                pnum[p] += 1
        position = following


def _segments(sym: Any, word: Any, tspan: Any, ids: Any, words: Any) -> Any:
    """Write the symbols of the text and their words; return how many there are."""
    size = 0
    position = 1
    while position < len(sym) - 1:
        a = wide(sym[position])
        if a != BORDER:
            ids[size] = a
            words[size] = word[position]
            size += 1
        position += tspan[a] if a >= 0 else 1
    return size


def _rehash(meta: Any, pkey: Any, tkey: Any, tpair: Any) -> None:
    """Fill an empty table of pairs."""
    for p in range(meta[PAIRS]):
        slot = slot_of(pkey[p], tkey)
        tkey[slot] = pkey[p]
        tpair[slot] = p


def _rehash_content(meta: Any, tstart: Any, tlen: Any, tdata: Any, ttable: Any) -> None:
    """Fill an empty table of tokens; the lowest id keeps its place among equal contents."""
    for token in range(meta[TOKENS]):
        if tlen[token] > 0:
            slot = content_slot(token, -1, tstart, tlen, tdata, ttable)
            if ttable[slot] < 0:
                ttable[slot] = token


PLAIN: dict[str, F] = {
    "wide": _wide,
    "slot_of": _slot_of,
    "pair_of": _pair_of,
    "content_slot": _content_slot,
    "is_above": _is_above,
    "heap_push": _heap_push,
    "heap_replace_top": _heap_replace_top,
    "pend": _pend,
    "add": _add,
    "lay_out": _lay_out,
    "count_first": _count_first,
    "make_first": _make_first,
    "place_first": _place_first,
    "segments": _segments,
    "rehash": _rehash,
    "rehash_content": _rehash_content,
}
wide = inlined(_wide)
slot_of = inlined(_slot_of)
pair_of = inlined(_pair_of)
content_slot = compiled(_content_slot)
is_above = inlined(_is_above)
heap_push = compiled(_heap_push)
heap_replace_top = compiled(_heap_replace_top)
pend = inlined(_pend)
add = compiled(_add)
lay_out = compiled(_lay_out)
count_first = compiled(_count_first)
make_first = compiled(_make_first)
place_first = compiled(_place_first)
segments = compiled(_segments)
rehash = compiled(_rehash)
rehash_content = compiled(_rehash_content)
