"""The inner loops of the merge engine, compiled by numba where it is installed.

Imported only when an engine is made. Each function works on numpy arrays (compiled) and on lists
(plain Python) alike and gives the same result; all arithmetic stays within int64. Parameter names:

    meta                          scalars, see the constants below
    sym, prv, nxt, word, weight   the text: symbol (-1 never merges, -2 gone), neighbours, word
    pa, pb, pcount, phead, ptail, prank, pstamp   pairs: parts, count, occurrences, rule, last touch
    table                         open addressing, pair -> its index
    opos, onext                   occurrences of pairs as linked lists of positions
    hcount, hpair                 a binary max-heap of (count, pair)
    tstart, tlen, tsize, tban     tokens: place in `tdata`, bytes, size for the limit, is banned
    tdata, ttable                 bytes of all tokens; open addressing, content -> id
    rpair, rprod, rcount, rtotal  rules in order: pair, product, count when applied, tokens after
"""

from types import FunctionType
from typing import Any

from jeton.learn.compiling import F, compiled

# Slots of `meta`.
PAIRS, OCCURRENCES, HEAP, TOKENS, DATA, RULES, FORCED, TOTAL = 0, 1, 2, 3, 4, 5, 6, 7
PHASE, CURRENT, ENTRY, TOUCHED, CANDIDATE, APPLIED, MIN_COUNT = 8, 9, 10, 11, 12, 13, 14
MAX_SIZE, REAPPLY, LONGEST, MAX_TOKENS, MAX_RULES, CHECK, NUM_META = 15, 16, 17, 18, 19, 20, 21
# Phases, so that a call that ran out of room goes on where it stopped.
CHOOSE, ACCEPT, APPLY, PUSH = 0, 1, 2, 3
# Return codes.
DONE, NEED_ROOM, EXHAUSTED, CANDIDATE_FOUND = 0, 1, 2, 3


def _wide(value: Any) -> Any:
    """Return an element as int64, so that each kernel is compiled for one type only."""
    return value + 0


def _pair_slot(a: Any, b: Any, pa: Any, pb: Any, table: Any) -> Any:
    mask = len(table) - 1
    mixed = a * 0x9E3779B1 + b * 0x85EBCA6B
    slot = (mixed ^ (mixed >> 31)) & mask
    while table[slot] >= 0 and (pa[table[slot]] != a or pb[table[slot]] != b):
        slot = (slot + 1) & mask
    return slot


def _pair_of(a: Any, b: Any, meta: Any, pa: Any, pb: Any, table: Any, pcount: Any) -> Any:
    """Return the index of a pair, making it when it is new."""
    slot = pair_slot(a, b, pa, pb, table)
    if table[slot] < 0:
        index = meta[PAIRS]
        table[slot] = index
        pa[index] = a
        pb[index] = b
        pcount[index] = 0
        meta[PAIRS] = index + 1
    return table[slot]


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


def _is_above(count: Any, p: Any, other_count: Any, q: Any, pa: Any, pb: Any) -> Any:
    """Order of the heap: higher count first, then the lower pair of ids."""
    if count != other_count:
        return count > other_count
    if pa[p] != pa[q]:
        return pa[p] < pa[q]
    return pb[p] < pb[q]


def _heap_push(count: Any, p: Any, meta: Any, hcount: Any, hpair: Any, pa: Any, pb: Any) -> None:
    i = meta[HEAP]
    meta[HEAP] = i + 1
    while i > 0:
        up = (i - 1) >> 1
        if not is_above(count, p, hcount[up], wide(hpair[up]), pa, pb):
            break
        hcount[i] = hcount[up]
        hpair[i] = hpair[up]
        i = up
    hcount[i] = count
    hpair[i] = p


def _heap_replace_top(
    count: Any, p: Any, size: Any, hcount: Any, hpair: Any, pa: Any, pb: Any
) -> None:
    i = 0
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        if child + 1 < size and is_above(
            hcount[child + 1], wide(hpair[child + 1]), hcount[child], wide(hpair[child]), pa, pb
        ):
            child += 1
        if not is_above(hcount[child], wide(hpair[child]), count, p, pa, pb):
            break
        hcount[i] = hcount[child]
        hpair[i] = hpair[child]
        i = child
    hcount[i] = count
    hpair[i] = p


def _add(
    position: Any, step: Any, meta: Any, sym: Any, nxt: Any, word: Any, weight: Any, pa: Any,
    pb: Any, pcount: Any, phead: Any, ptail: Any, pstamp: Any, table: Any, opos: Any, onext: Any,
    tsize: Any, touched: Any,
) -> None:  # fmt: skip
    """Count the pair that starts at a position and remember where it is."""
    a = wide(sym[position])
    b = wide(sym[nxt[position]])
    if a < 0 or b < 0 or tsize[a] + tsize[b] > meta[MAX_SIZE]:
        return
    p = wide(pair_of(a, b, meta, pa, pb, table, pcount))
    pcount[p] += weight[word[position]]
    entry = meta[OCCURRENCES]
    meta[OCCURRENCES] = entry + 1
    opos[entry] = position
    onext[entry] = -1
    if phead[p] < 0:
        phead[p] = entry
    else:
        onext[ptail[p]] = entry
    ptail[p] = entry
    if pstamp[p] != step:
        pstamp[p] = step
        touched[meta[TOUCHED]] = p
        meta[TOUCHED] += 1


def _count_all(
    meta: Any, sym: Any, nxt: Any, word: Any, weight: Any, pa: Any, pb: Any, pcount: Any,
    phead: Any, ptail: Any, pstamp: Any, table: Any, opos: Any, onext: Any, tsize: Any,
    touched: Any, start: Any, room: Any,
) -> Any:  # fmt: skip
    """Count the pairs from a position on; return where it stopped for want of room."""
    for position in range(start, len(sym)):
        if meta[PAIRS] + 1 >= room:
            return position
        if nxt[position] >= 0:
            add(
                position, 0, meta, sym, nxt, word, weight, pa, pb, pcount, phead, ptail, pstamp,
                table, opos, onext, tsize, touched,
            )  # fmt: skip
    return len(sym)


def _rehash(meta: Any, pa: Any, pb: Any, table: Any) -> None:
    """Fill an empty table of pairs."""
    for p in range(meta[PAIRS]):
        table[pair_slot(wide(pa[p]), wide(pb[p]), pa, pb, table)] = p


def _rehash_content(meta: Any, tstart: Any, tlen: Any, tdata: Any, ttable: Any) -> None:
    """Fill an empty table of tokens; the lowest id keeps its place among equal contents."""
    for token in range(meta[TOKENS]):
        if tlen[token] > 0:
            slot = content_slot(token, -1, tstart, tlen, tdata, ttable)
            if ttable[slot] < 0:
                ttable[slot] = token


def _advance(
    meta: Any, sym: Any, prv: Any, nxt: Any, word: Any, weight: Any, pa: Any, pb: Any, pcount: Any,
    phead: Any, ptail: Any, prank: Any, pstamp: Any, table: Any, opos: Any, onext: Any,
    touched: Any, hcount: Any, hpair: Any, tstart: Any, tlen: Any, tsize: Any, tban: Any,
    tdata: Any, ttable: Any, rpair: Any, rprod: Any, rcount: Any, rtotal: Any,
) -> Any:  # fmt: skip
    """Apply rules and learn new ones until a limit, a lack of room or a candidate to be judged."""
    while True:
        step = meta[APPLIED] + 1  # stamps start at 1
        if meta[PHASE] == CHOOSE:
            if meta[APPLIED] >= meta[MAX_RULES]:
                return DONE
            if meta[APPLIED] < meta[FORCED]:
                meta[CURRENT] = rpair[meta[APPLIED]]
                meta[ENTRY] = phead[meta[CURRENT]]
                rcount[meta[APPLIED]] = pcount[meta[CURRENT]]
                meta[PHASE] = APPLY
            else:
                if meta[TOKENS] >= meta[MAX_TOKENS]:
                    return DONE
                p = -1
                while meta[HEAP] > 0:
                    p = wide(hpair[0])
                    count = hcount[0]
                    is_gone = phead[p] < 0 or (meta[REAPPLY] == 1 and prank[p] >= 0)
                    if not is_gone and pcount[p] != count:
                        heap_replace_top(pcount[p], p, meta[HEAP], hcount, hpair, pa, pb)
                        continue
                    if not is_gone and (count < meta[MIN_COUNT] or count < 1):
                        return EXHAUSTED
                    meta[HEAP] -= 1
                    size = meta[HEAP]
                    if size > 0:
                        heap_replace_top(
                            hcount[size], wide(hpair[size]), size, hcount, hpair, pa, pb
                        )
                    if not is_gone:
                        break
                    p = -1
                if p < 0:
                    return EXHAUSTED
                meta[CANDIDATE] = p
                meta[PHASE] = ACCEPT
                if meta[CHECK] == 1:
                    return CANDIDATE_FOUND
        if meta[PHASE] == ACCEPT:
            p = meta[CANDIDATE]
            a = wide(pa[p])
            b = wide(pb[p])
            size = tlen[a] + tlen[b]
            if (
                meta[TOKENS] >= len(tlen)
                or meta[DATA] + size > len(tdata)
                or 2 * meta[TOKENS] >= len(ttable)
                or meta[RULES] >= len(rpair)
            ):
                return NEED_ROOM
            slot = content_slot(a, b, tstart, tlen, tdata, ttable)
            product = wide(ttable[slot])
            if product >= 0 and tban[product] == 1:
                meta[PHASE] = CHOOSE
                continue
            if product < 0:
                product = meta[TOKENS]
                meta[TOKENS] = product + 1
                ttable[slot] = product
                start = meta[DATA]
                for k in range(tlen[a]):
                    tdata[start + k] = tdata[tstart[a] + k]
                for k in range(tlen[b]):
                    tdata[start + tlen[a] + k] = tdata[tstart[b] + k]
                meta[DATA] = start + size
                tstart[product] = start
                tlen[product] = size
                tsize[product] = tsize[a] + tsize[b]
                tban[product] = 0
            rule = meta[RULES]
            meta[RULES] = rule + 1
            rpair[rule] = p
            rprod[rule] = product
            rcount[rule] = pcount[p]
            prank[p] = rule
            meta[CURRENT] = p
            meta[ENTRY] = phead[p]
            meta[PHASE] = APPLY
        if meta[PHASE] == APPLY:
            p = meta[CURRENT]
            a = wide(pa[p])
            b = wide(pb[p])
            while meta[ENTRY] >= 0:
                if meta[PAIRS] + 2 * meta[LONGEST] + 2 > len(pa):
                    return NEED_ROOM
                entry = meta[ENTRY]
                meta[ENTRY] = onext[entry]
                first = wide(opos[entry])
                if sym[first] != a or nxt[first] < 0 or sym[nxt[first]] != b:
                    continue
                while a == b and prv[first] >= 0 and sym[prv[first]] == a:
                    first = wide(prv[first])  # a run is merged from its left end
                while True:
                    at = first
                    product = wide(rprod[meta[APPLIED]])
                    while True:
                        left = wide(prv[at])
                        second = wide(nxt[at])
                        right = wide(nxt[second])
                        amount = weight[word[at]]
                        if left >= 0 and sym[left] >= 0:
                            slot = pair_slot(wide(sym[left]), wide(sym[at]), pa, pb, table)
                            if table[slot] >= 0:
                                pcount[table[slot]] -= amount
                        if right >= 0 and sym[right] >= 0:
                            slot = pair_slot(wide(sym[second]), wide(sym[right]), pa, pb, table)
                            if table[slot] >= 0:
                                pcount[table[slot]] -= amount
                        sym[at] = product
                        sym[second] = -2
                        nxt[at] = right
                        if right >= 0:
                            prv[right] = at
                        meta[TOTAL] -= amount
                        for where in (left, at):
                            if where >= 0 and nxt[where] >= 0:
                                add(
                                    where, step, meta, sym, nxt, word, weight, pa, pb, pcount,
                                    phead, ptail, pstamp, table, opos, onext, tsize, touched,
                                )  # fmt: skip
                        if meta[REAPPLY] == 0:
                            break
                        # A neighbour may now match a rule applied before: the encoder would
                        # apply it at once.
                        best = meta[APPLIED] + 1
                        next_at = -1
                        for where in (left, at):
                            if where >= 0 and nxt[where] >= 0:
                                c = wide(sym[where])
                                d = wide(sym[nxt[where]])
                                if c >= 0 and d >= 0:
                                    q = wide(table[pair_slot(c, d, pa, pb, table)])
                                    if q >= 0 and 0 <= prank[q] < best:
                                        best = wide(prank[q])
                                        next_at = where
                        if next_at < 0:
                            break
                        at = next_at
                        product = wide(rprod[best])
                    if a != b:
                        break
                    first = wide(nxt[first]) if sym[first] >= 0 else -1
                    if first < 0 or sym[first] != a or nxt[first] < 0 or sym[nxt[first]] != b:
                        break
            phead[p] = -1
            rtotal[meta[APPLIED]] = meta[TOTAL]
            meta[PHASE] = PUSH
        if meta[PHASE] == PUSH:
            if meta[HEAP] + meta[TOUCHED] > len(hcount):
                return NEED_ROOM
            for k in range(meta[TOUCHED]):
                q = wide(touched[k])
                if pcount[q] > 0 and not (meta[REAPPLY] == 1 and prank[q] >= 0):
                    heap_push(pcount[q], q, meta, hcount, hpair, pa, pb)
            meta[TOUCHED] = 0
            meta[APPLIED] += 1
            meta[PHASE] = CHOOSE


_PLAIN = {
    "wide": _wide,
    "pair_slot": _pair_slot,
    "pair_of": _pair_of,
    "content_slot": _content_slot,
    "is_above": _is_above,
    "heap_push": _heap_push,
    "heap_replace_top": _heap_replace_top,
    "add": _add,
    "count_all": _count_all,
    "rehash": _rehash,
    "rehash_content": _rehash_content,
    "advance": _advance,
}
wide = compiled(_wide)
pair_slot = compiled(_pair_slot)
pair_of = compiled(_pair_of)
content_slot = compiled(_content_slot)
is_above = compiled(_is_above)
heap_push = compiled(_heap_push)
heap_replace_top = compiled(_heap_replace_top)
add = compiled(_add)
count_all = compiled(_count_all)
rehash = compiled(_rehash)
rehash_content = compiled(_rehash_content)
advance = compiled(_advance)


def functions(is_compiled: bool) -> dict[str, F]:
    """Return the kernels by name, compiled or as plain Python that calls plain Python."""
    if is_compiled:
        return {name: globals()[name] for name in _PLAIN}
    space: dict[str, Any] = dict(globals())
    for name, function in _PLAIN.items():
        space[name] = FunctionType(function.__code__, space, name)
    return {name: space[name] for name in _PLAIN}
