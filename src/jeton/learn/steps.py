"""The steps of the merge engine: choose a pair, merge it everywhere, sum up; see `kernels`."""

from types import FunctionType
from typing import Any

from jeton.core.compiling import F, compiled, inlined
from jeton.learn import kernels
from jeton.learn.kernels import (
    ACCEPT,
    APPLIED,
    APPLY,
    CANDIDATE,
    CANDIDATE_FOUND,
    CHECK,
    CHOOSE,
    CURRENT,
    DATA,
    DONE,
    ENTRY,
    EXHAUSTED,
    FORCED,
    GONE,
    HEAP,
    LEFTS,
    LONGEST,
    MAX_RULES,
    MAX_SIZE,
    MAX_TOKENS,
    MIN_COUNT,
    NEED_ROOM,
    NEW,
    OCCURRENCES,
    PAIRS,
    PHASE,
    PUSH,
    REAPPLY,
    RULES,
    STEP,
    TOKENS,
    TOTAL,
    TOUCHED,
    add,
    content_slot,
    heap_push,
    heap_replace_top,
    pair_of,
    slot_of,
    wide,
)


def _choose(
    meta: Any, pkey: Any, pcount: Any, pnum: Any, prank: Any, hcount: Any, hpair: Any
) -> Any:
    """Return the pair to merge next and take it off the heap; -1 when none is left."""
    while meta[HEAP] > 0:
        p = wide(hpair[0])
        count = hcount[0]
        is_gone = pnum[p] == 0 or (meta[REAPPLY] == 1 and prank[p] >= 0)
        if not is_gone and pcount[p] != count:
            if pcount[p] > 0:
                heap_replace_top(pcount[p], p, meta[HEAP], hcount, hpair, pkey)
                continue
            is_gone = True
        if not is_gone and (count < meta[MIN_COUNT] or count < 1):
            return -1
        meta[HEAP] -= 1
        size = meta[HEAP]
        if size > 0:
            heap_replace_top(hcount[size], wide(hpair[size]), size, hcount, hpair, pkey)
        if not is_gone:
            return p
    return -1


def _accept(
    meta: Any, pkey: Any, pcount: Any, prank: Any, tstart: Any, tlen: Any, tsize: Any, tban: Any,
    tdata: Any, ttable: Any, rpair: Any, rprod: Any, rcount: Any,
    tspan: Any,
) -> Any:  # fmt: skip
    """Make the candidate a rule; return 0 for want of room, 1 when its bytes are banned, else 2."""
    p = meta[CANDIDATE]
    a = pkey[p] >> 32
    b = pkey[p] & 0xFFFFFFFF
    size = tlen[a] + tlen[b]
    if (
        meta[TOKENS] >= len(tlen)
        or meta[DATA] + size > len(tdata)
        or 2 * meta[TOKENS] >= len(ttable)
        or meta[RULES] >= len(rpair)
    ):
        return 0
    slot = content_slot(a, b, tstart, tlen, tdata, ttable)
    product = wide(ttable[slot])
    if product >= 0 and tban[product] == 1:
        return 1
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
        tspan[product] = tspan[a] + tspan[b]
        tban[product] = 0
        if tspan[product] > meta[LONGEST]:
            meta[LONGEST] = wide(tspan[product])
    rule = meta[RULES]
    meta[RULES] = rule + 1
    rpair[rule] = p
    rprod[rule] = product
    rcount[rule] = pcount[p]
    prank[p] = rule
    return 2


def _reapply(
    at: Any, meta: Any, sym: Any, word: Any, weight: Any, pkey: Any, pcount: Any, pnum: Any,
    ppend: Any, prank: Any, tkey: Any, tpair: Any, npair: Any, npos: Any, touched: Any, tspan: Any,
    tsize: Any, rprod: Any,
) -> None:  # fmt: skip
    """Apply earlier rules around a new token at once, the lowest first, as an encoder does."""
    while True:
        best = meta[APPLIED] + 1
        chosen = -1
        before = wide(sym[at - 1])
        left = at - tspan[before] if before >= 0 else -1
        for where in (left, at):
            if where >= 0:
                a = wide(sym[where])
                b = wide(sym[where + tspan[a]])
                if b >= 0:
                    slot = slot_of((a << 32) | b, tkey)
                    if tkey[slot] != -1 and 0 <= prank[tpair[slot]] < best:
                        best = wide(prank[tpair[slot]])
                        chosen = where
        if chosen < 0:
            return
        at = chosen
        a = wide(sym[at])
        second = at + tspan[a]
        b = wide(sym[second])
        end = second + tspan[b]
        amount = weight[word[at]]
        before = wide(sym[at - 1])
        after = wide(sym[end])
        if before >= 0:
            slot = slot_of((before << 32) | a, tkey)
            if tkey[slot] != -1:
                pcount[tpair[slot]] -= amount
        if after >= 0:
            slot = slot_of((b << 32) | after, tkey)
            if tkey[slot] != -1:
                pcount[tpair[slot]] -= amount
        product = wide(rprod[best])
        sym[second] = GONE
        sym[at] = product
        sym[end - 1] = product
        meta[TOTAL] -= amount
        if before >= 0:
            add(
                at - tspan[before], meta, sym, word, weight, pkey, pcount, pnum, ppend, prank, tkey,
                tpair, npair, npos, touched, tspan, tsize,
            )  # fmt: skip
        add(
            at, meta, sym, word, weight, pkey, pcount, pnum, ppend, prank, tkey, tpair, npair,
            npos, touched, tspan, tsize,
        )  # fmt: skip


def _neighbour(
    side: Any, symbol: Any, product: Any, meta: Any, pkey: Any, pcount: Any, pnum: Any, prank: Any,
    tkey: Any, tpair: Any, near: Any, nlist: Any, tsize: Any,
) -> Any:  # fmt: skip
    """Return where a neighbour's sums of this step stand in `near`, making them when it is new.

    The pair of a neighbour and the product is looked up once per step, not once per place.
    """
    at = 8 * symbol + 4 * side
    if near[at] >> 1 != meta[STEP]:
        q = -1
        if tsize[symbol] + tsize[product] <= meta[MAX_SIZE]:
            a = product if side else symbol
            b = symbol if side else product
            q = pair_of(a, b, meta, pkey, pcount, pnum, prank, tkey, tpair)
        is_open = meta[REAPPLY] == 1 and q >= 0 and 0 <= prank[q] <= meta[APPLIED]
        near[at] = 2 * meta[STEP] + is_open
        near[at + 1] = q
        near[at + 2] = 0
        near[at + 3] = 0
        number = meta[LEFTS + side]
        nlist[2 * number + side] = symbol
        meta[LEFTS + side] = number + 1
    return at


def _apply(
    meta: Any, sym: Any, word: Any, weight: Any, pkey: Any, pcount: Any, pstart: Any, pnum: Any,
    ppend: Any, prank: Any, tkey: Any, tpair: Any, opos: Any, npair: Any, npos: Any, touched: Any,
    near: Any, nlist: Any, tspan: Any, tsize: Any, rprod: Any,
) -> Any:  # fmt: skip
    """Merge the current pair everywhere; return whether there was room for all of it."""
    p = meta[CURRENT]
    a = pkey[p] >> 32
    b = pkey[p] & 0xFFFFFFFF
    len_a = wide(tspan[a])
    size = len_a + tspan[b]
    product = wide(rprod[meta[APPLIED]])
    spare = 2 * meta[LONGEST] + 8
    end = pstart[p] + pnum[p]
    while meta[ENTRY] < end:
        at = wide(opos[meta[ENTRY]])
        if sym[at] != a or sym[at + len_a] != b:
            meta[ENTRY] += 1
            continue
        while a == b and sym[at - 1] == a:
            at -= len_a  # a run is merged from its left end
        while sym[at] == a and sym[at + len_a] == b:
            if meta[PAIRS] + spare > len(pkey) or meta[NEW] + spare > len(npair):
                return 0
            amount = weight[word[at]]
            before = wide(sym[at - 1])
            after = wide(sym[at + size])
            is_open = 0
            entry = meta[NEW]
            if before >= 0:
                n = neighbour(
                    0, before, product, meta, pkey, pcount, pnum, prank, tkey, tpair, near, nlist,
                    tsize,
                )  # fmt: skip
                near[n + 2] += amount
                if near[n + 1] >= 0:
                    near[n + 3] += 1
                    npair[entry] = near[n + 1]
                    npos[entry] = at - tspan[before]
                    entry += 1
                    is_open = near[n] & 1
            if after >= 0:
                n = neighbour(
                    1, after, product, meta, pkey, pcount, pnum, prank, tkey, tpair, near, nlist,
                    tsize,
                )  # fmt: skip
                near[n + 2] += amount
                if near[n + 1] >= 0:
                    near[n + 3] += 1
                    npair[entry] = near[n + 1]
                    npos[entry] = at
                    entry += 1
                    is_open |= near[n] & 1
            meta[NEW] = entry
            sym[at + len_a] = GONE
            sym[at] = product
            sym[at + size - 1] = product
            meta[TOTAL] -= amount
            if is_open:
                reapply(
                    at, meta, sym, word, weight, pkey, pcount, pnum, ppend, prank, tkey, tpair,
                    npair, npos, touched, tspan, tsize, rprod,
                )  # fmt: skip
            if a != b:
                break
            at += size
        meta[ENTRY] += 1
    pnum[p] = 0
    return 1


def _settle(
    meta: Any, pkey: Any, pcount: Any, pstart: Any, pnum: Any, ppend: Any, prank: Any, tkey: Any,
    tpair: Any, opos: Any, npair: Any, npos: Any, touched: Any, near: Any, nlist: Any, hcount: Any,
    hpair: Any,
) -> Any:  # fmt: skip
    """End a step: sum up, file the new places, push the pairs; return whether there was room."""
    a = pkey[meta[CURRENT]] >> 32
    b = pkey[meta[CURRENT]] & 0xFFFFFFFF
    for side in (0, 1):
        for k in range(meta[LEFTS + side]):
            symbol = wide(nlist[2 * k + side])
            at = 8 * symbol + 4 * side
            q = near[at + 1]
            if q >= 0:
                pcount[q] += near[at + 2]
                if ppend[q] == 0:
                    touched[meta[TOUCHED]] = q
                    meta[TOUCHED] += 1
                ppend[q] += near[at + 3]
            slot = slot_of((b << 32) | symbol if side else (symbol << 32) | a, tkey)
            if tkey[slot] != -1:
                pcount[tpair[slot]] -= near[at + 2]
        meta[LEFTS + side] = 0
    room = meta[OCCURRENCES] + meta[NEW]
    for k in range(meta[TOUCHED]):
        room += pnum[touched[k]]
    if room > len(opos) or meta[HEAP] + meta[TOUCHED] > len(hcount):
        return 0
    for k in range(meta[TOUCHED]):
        q = wide(touched[k])
        start = meta[OCCURRENCES]
        for i in range(pnum[q]):  # of a product that some rule gave before
            opos[start + i] = opos[pstart[q] + i]
        pstart[q] = start
        meta[OCCURRENCES] = start + pnum[q] + ppend[q]
        ppend[q] = 0
    for k in range(meta[NEW]):
        q = wide(npair[k])
        opos[pstart[q] + pnum[q]] = npos[k]
        pnum[q] += 1
    meta[NEW] = 0
    for k in range(meta[TOUCHED]):
        q = wide(touched[k])
        if pcount[q] > 0 and not (meta[REAPPLY] == 1 and prank[q] >= 0):
            heap_push(pcount[q], q, meta, hcount, hpair, pkey)
    meta[TOUCHED] = 0
    return 1


def _advance(
    meta: Any, sym: Any, word: Any, weight: Any, pkey: Any, pcount: Any, pstart: Any, pnum: Any,
    ppend: Any, prank: Any, tkey: Any, tpair: Any, opos: Any, npair: Any, npos: Any, touched: Any,
    near: Any, nlist: Any, hcount: Any, hpair: Any, tstart: Any,
    tlen: Any, tsize: Any, tban: Any, tspan: Any, tdata: Any, ttable: Any, rpair: Any, rprod: Any,
    rcount: Any, rtotal: Any,
) -> Any:  # fmt: skip
    """Apply rules and learn new ones until a limit, a lack of room or a candidate to be judged."""
    while True:
        if meta[PHASE] == CHOOSE:
            if meta[APPLIED] >= meta[MAX_RULES]:
                return DONE
            if meta[APPLIED] < meta[FORCED]:
                meta[CURRENT] = rpair[meta[APPLIED]]
                rcount[meta[APPLIED]] = pcount[meta[CURRENT]]
                meta[ENTRY] = pstart[meta[CURRENT]]
                meta[PHASE] = APPLY
            else:
                if meta[TOKENS] >= meta[MAX_TOKENS]:
                    return DONE
                p = choose(meta, pkey, pcount, pnum, prank, hcount, hpair)
                if p < 0:
                    return EXHAUSTED
                meta[CANDIDATE] = p
                meta[PHASE] = ACCEPT
                if meta[CHECK] == 1:
                    return CANDIDATE_FOUND
        if meta[PHASE] == ACCEPT:
            outcome = accept(
                meta, pkey, pcount, prank, tstart, tlen, tsize, tban, tdata, ttable, rpair, rprod,
                rcount, tspan,
            )  # fmt: skip
            if outcome == 0:
                return NEED_ROOM
            if outcome == 1:
                meta[PHASE] = CHOOSE
                continue
            meta[CURRENT] = meta[CANDIDATE]
            meta[ENTRY] = pstart[meta[CURRENT]]
            meta[PHASE] = APPLY
        if meta[PHASE] == APPLY:
            if 8 * meta[TOKENS] > len(near) or not apply(
                meta, sym, word, weight, pkey, pcount, pstart, pnum, ppend, prank, tkey, tpair,
                opos, npair, npos, touched, near, nlist, tspan, tsize, rprod,
            ):  # fmt: skip
                return NEED_ROOM
            rtotal[meta[APPLIED]] = meta[TOTAL]
            meta[PHASE] = PUSH
        if meta[PHASE] == PUSH:
            if not settle(
                meta, pkey, pcount, pstart, pnum, ppend, prank, tkey, tpair, opos, npair, npos,
                touched, near, nlist, hcount, hpair,
            ):  # fmt: skip
                return NEED_ROOM
            meta[APPLIED] += 1
            meta[STEP] += 1
            meta[PHASE] = CHOOSE


PLAIN: dict[str, F] = {
    **kernels.PLAIN,
    "choose": _choose,
    "accept": _accept,
    "reapply": _reapply,
    "neighbour": _neighbour,
    "apply": _apply,
    "settle": _settle,
    "advance": _advance,
}
choose = compiled(_choose)
accept = compiled(_accept)
reapply = compiled(_reapply)
neighbour = inlined(_neighbour)
apply = compiled(_apply)
settle = compiled(_settle)
advance = compiled(_advance)


def functions(is_compiled: bool) -> dict[str, F]:
    """Return the kernels by name, compiled or as plain Python that calls plain Python."""
    space: dict[str, Any] = {**vars(kernels), **globals()}
    if is_compiled:
        return {name: space[name] for name in PLAIN}
    for name, function in PLAIN.items():
        space[name] = FunctionType(function.__code__, space, name)
    return {name: space[name] for name in PLAIN}
