"""The merge engine: apply merges to counted words, and learn more, one pair at a time.

Learning afresh, extending a vocabulary, replaying a merge list and learning across words are
configurations of this one engine. Counts are int64; among pairs of equal count the one with the
lower ids is merged first, as Hugging Face `tokenizers` does.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jeton.core.compiling import HAS_NUMBA
from jeton.errors import ConfigError, InputError
from jeton.learn import kernels as k
from jeton.learn.steps import functions
from jeton.learn.words import Merges, Words

NO_LIMIT = 1 << 40
# A veto sees the bytes of both parts and says whether their merge must not be learned.
Veto = Callable[[bytes, bytes], bool]


class MergeEngine:
    """Words and the merges applied to them so far.

    Args:
        words: The text; it is not changed.
        tokens: Bytes of the tokens that exist, by id. Ids from `len(tokens)` on are given to
            products whose bytes no token has. An empty entry is a token that is not text.
        banned: Ids whose bytes must not arise as a product, such as special tokens.
        rules: Merges to apply first, in order: (left id, right id, product id).
        max_token_size: Products of a greater size are not learned.
        sizes: Size of each token for that limit; its bytes by default. Sizes add up.
        spans: Places in the words that each token covers; its bytes by default.
        min_count: Pairs that occur less often are not learned.
        reapply: Whether a pair that arises again after its rule is merged at once, as an encoder
            does; otherwise it is counted anew, as the trainer of `tokenizers` does.
        backend: "numba", "python", or "auto" for numba where it is installed.
    """

    def __init__(
        self,
        words: Words,
        tokens: Sequence[bytes],
        *,
        banned: Sequence[int] = (),
        rules: Sequence[tuple[int, int, int]] = (),
        max_token_size: int | None = None,
        sizes: Sequence[int] | None = None,
        spans: Sequence[int] | None = None,
        min_count: int = 1,
        reapply: bool = True,
        backend: str = "auto",
    ) -> None:
        if backend not in ("auto", "numba", "python"):
            raise ConfigError(f"backend must be auto, numba or python, got {backend!r}")
        if backend == "numba" and not HAS_NUMBA:
            raise ConfigError("numba is not installed", hint="pip install numba")
        is_compiled = HAS_NUMBA and backend != "python"
        self._kernels = functions(is_compiled)
        self._meta: Any = np.zeros(k.NUM_META, dtype=np.int64)
        self._meta[k.MIN_COUNT] = max(1, min_count)
        self._meta[k.MAX_SIZE] = NO_LIMIT if max_token_size is None else max_token_size
        self._meta[k.REAPPLY] = reapply
        self._meta[k.STEP] = 1  # a neighbour's stamp of 0 is of no step
        self._meta[k.TOTAL] = words.num_tokens
        self._arrays: dict[str, Any] = {}
        self._set_tokens(tokens, banned, sizes, spans)
        self._set_words(words)
        for name, (dtype, _) in _GROWING.items():
            self._arrays.setdefault(name, np.zeros(0, dtype=dtype))
        if not is_compiled:
            self._meta = self._meta.tolist()
            self._arrays = {name: array.tolist() for name, array in self._arrays.items()}
        self._lay_out(words)
        self._set_rules(rules)
        self._count(words)

    def _set_words(self, words: Words) -> None:
        num_places = len(words.symbols) + len(words.ends) + 1
        if num_places >= 1 << 31:
            raise InputError(
                f"{num_places} bytes of distinct pieces are more than an engine takes",
                hint="learn from a sample, or choose shorter spans",
            )
        self._arrays |= {
            "sym": np.empty(num_places, dtype=np.int32),
            "word": np.empty(num_places, dtype=np.int32),
            "weight": words.counts.astype(np.int64, copy=True),
            # Each merge frees one place of an old pair and makes at most two of new ones; memory
            # that is never written is never taken.
            "opos": np.zeros(3 * len(words.symbols) + 1, dtype=np.int32),
        }

    def _lay_out(self, words: Words) -> None:
        symbols, ends = words.symbols, words.ends
        if isinstance(self._meta, list):
            self._call("lay_out", symbols.tolist(), ends.tolist(), "sym word")
        else:
            self._call("lay_out", symbols, ends, "sym word")

    def _set_tokens(
        self,
        tokens: Sequence[bytes],
        banned: Sequence[int],
        sizes: Sequence[int] | None,
        spans: Sequence[int] | None,
    ) -> None:
        lengths = np.array([len(token) for token in tokens], dtype=np.int32)
        starts = np.zeros(len(tokens), dtype=np.int64)
        starts[1:] = np.cumsum(lengths, dtype=np.int64)[:-1]
        is_banned = np.zeros(len(tokens), dtype=np.uint8)
        is_banned[list(banned)] = 1
        self._arrays |= {
            "tstart": starts,
            "tlen": lengths,
            "tsize": lengths.copy() if sizes is None else np.array(sizes, dtype=np.int32),
            "tban": is_banned,
            "tspan": lengths.copy() if spans is None else np.array(spans, dtype=np.int32),
            "tdata": np.frombuffer(b"".join(tokens), dtype=np.uint8).copy(),
            "tkey": np.zeros(0, dtype=np.int64),
            "tpair": np.zeros(0, dtype=np.int32),
            "ttable": np.zeros(0, dtype=np.int32),
        }
        self._meta[k.TOKENS] = len(tokens)
        self._meta[k.DATA] = int(lengths.sum())
        self._meta[k.LONGEST] = int(lengths.max(initial=1))

    def _set_rules(self, rules: Sequence[tuple[int, int, int]]) -> None:
        self._grow(at_least=2 * len(rules) + 64)
        for left, right, product in rules:
            self._add_rule(left, right, product)

    def _add_rule(self, left: int, right: int, product: int) -> None:
        meta, arrays = self._meta, self._arrays
        if meta[k.RULES] + 1 > len(arrays["rpair"]) or meta[k.PAIRS] + 1 > len(arrays["pkey"]):
            self._grow()
        pair = int(self._call("pair_of", left, right, "meta pkey pcount pnum prank tkey tpair"))
        rank = int(meta[k.RULES])
        arrays["rpair"][rank], arrays["rprod"][rank] = pair, product
        arrays["prank"][pair] = rank
        span = int(arrays["tspan"][left]) + int(arrays["tspan"][right])
        arrays["tspan"][product] = span
        meta[k.LONGEST] = max(int(meta[k.LONGEST]), span)
        meta[k.RULES] = meta[k.FORCED] = rank + 1

    def _count(self, words: Words) -> None:
        """Count the pairs of the text and fill the heap."""
        arrays = self._arrays
        spans = np.asarray(arrays["tspan"])
        ids = np.unique(words.symbols)
        ids = ids[ids >= 0]
        ids = ids[spans[ids] == 1].astype(np.int64)  # whole words have no neighbours
        width, local = len(ids), np.zeros(len(spans), dtype=np.int64)
        local[ids] = np.arange(width)
        tables: list[Any] = [local, *(np.zeros(width * width, dtype=np.int64) for _ in range(3))]
        if isinstance(self._meta, list):
            ids, tables = ids.tolist(), [table.tolist() for table in tables]
        local, sums, nums, pair_at = tables
        self._call("count_first", "sym word weight tspan", local, width, sums, nums)
        num_pairs = int(np.count_nonzero(nums))
        self._grow(at_least=int(self._meta[k.PAIRS]) + 2 * num_pairs + 64)
        self._call(
            "make_first",
            "meta",
            *(ids, sums, nums, pair_at),
            "pkey pcount pstart pnum prank tkey tpair tsize hcount hpair",
        )
        self._call("place_first", "sym tspan", local, width, pair_at, "opos pstart pnum")

    def _call(self, name: str, *given: Any) -> Any:
        """Call a kernel; a string stands for the arrays it names."""
        values: list[Any] = []
        for item in given:
            if isinstance(item, str):
                values += [self._meta if n == "meta" else self._arrays[n] for n in item.split()]
            else:
                values.append(item)
        return self._kernels[name](*values)

    def _grow(self, at_least: int = 0) -> None:
        """Double the room of every kind that is more than half full."""
        meta, arrays, room = self._meta, self._arrays, {}
        spare = 2 * int(meta[k.LONGEST]) + 8
        waiting = sum(int(arrays["pnum"][p]) for p in arrays["touched"][: meta[k.TOUCHED]])
        for kind, used in (
            ("pair", meta[k.PAIRS] + spare),
            ("new", meta[k.NEW] + spare),
            ("heap", meta[k.HEAP] + meta[k.TOUCHED]),
            ("token", meta[k.TOKENS] + 1),
            ("neighbour", 8 * meta[k.TOKENS] + 8),
            ("data", meta[k.DATA] + 2 * spare),
            ("rule", meta[k.RULES] + 1),
        ):
            room[kind] = max(3 * int(used) // 2, at_least, 1024)
        room["place"] = int(meta[k.OCCURRENCES] + meta[k.NEW]) + waiting
        for name, (_, kind) in _GROWING.items():
            arrays[name] = _extended(arrays[name], room[kind])
        slots = 1 << (3 * len(arrays["pkey"]) // 2 - 1).bit_length()
        if slots > len(arrays["tkey"]):
            arrays["tkey"] = arrays["tpair"] = arrays["tkey"][:0]  # freed before the new ones
            as_list = isinstance(meta, list)
            arrays["tkey"] = [-1] * slots if as_list else np.full(slots, -1, dtype=np.int64)
            arrays["tpair"] = [0] * slots if as_list else np.zeros(slots, dtype=np.int32)
            self._call("rehash", "meta pkey tkey tpair")
        slots = 1 << (2 * len(arrays["tlen"]) - 1).bit_length()
        if slots > len(arrays["ttable"]):
            arrays["ttable"] = _extended(arrays["ttable"][:0], slots, -1)
            self._call("rehash_content", "meta tstart tlen tdata ttable")

    def _advance(self, max_tokens: int, max_rules: int, check: bool) -> int:
        meta = self._meta
        meta[k.MAX_TOKENS], meta[k.MAX_RULES], meta[k.CHECK] = max_tokens, max_rules, check
        while (code := int(self._call("advance", _ADVANCE))) == k.NEED_ROOM:
            self._grow()
        return code

    @property
    def num_tokens(self) -> int:
        """How many tokens the text has now, by count."""
        return int(self._meta[k.TOTAL])

    @property
    def vocab_size(self) -> int:
        """How many tokens exist."""
        return int(self._meta[k.TOKENS])

    def replay(self) -> None:
        """Apply the rules that were given."""
        if self._meta[k.PHASE] != k.ACCEPT:  # else they are applied, and `best` waits for a word
            self._advance(0, int(self._meta[k.FORCED]), False)

    def learn(
        self, vocab_size: int = NO_LIMIT, *, num_merges: int | None = None, veto: Veto | None = None
    ) -> bool:
        """Learn merges until a number of tokens exist.

        Args:
            vocab_size: Tokens to reach, those at the start included.
            num_merges: Learn at most so many rules.
            veto: Merges that it forbids are passed over until their count rises again.
        Returns:
            Whether the size was reached; False when no pair is left that may be merged.
        """
        self.replay()
        max_rules = NO_LIMIT if num_merges is None else int(self._meta[k.APPLIED]) + num_merges
        while True:
            code = self._advance(vocab_size, max_rules, veto is not None)
            if code != k.CANDIDATE_FOUND:
                return code == k.DONE
            pair = self._meta[k.CANDIDATE]
            left, right = self._parts(pair)
            if veto is not None and veto(self.token(left), self.token(right)):
                self._meta[k.PHASE] = k.CHOOSE

    def best(self) -> tuple[int, int, int] | None:
        """Return the pair that would be merged next and its count; follow it with `accept`."""
        self.replay()
        if self._meta[k.PHASE] != k.ACCEPT:
            code = self._advance(NO_LIMIT, NO_LIMIT, True)
            if code != k.CANDIDATE_FOUND:
                return None
        pair = self._meta[k.CANDIDATE]
        return *self._parts(int(pair)), int(self._arrays["pcount"][pair])

    def _parts(self, pair: int) -> tuple[int, int]:
        """Return the ids of a pair."""
        key = int(self._arrays["pkey"][pair])
        return key >> 32, key & 0xFFFFFFFF

    def accept(self) -> bool:
        """Merge the pair that `best` returned, or the next one when its bytes are banned.

        Returns:
            Whether a pair was merged.
        """
        before = int(self._meta[k.APPLIED])
        self._advance(NO_LIMIT, before + 1, False)
        return bool(self._meta[k.APPLIED] > before)

    def last_rule(self) -> tuple[int, int, int]:
        """Return left id, right id and product of the rule applied last."""
        rank, arrays = int(self._meta[k.APPLIED]) - 1, self._arrays
        return *self._parts(int(arrays["rpair"][rank])), int(arrays["rprod"][rank])

    def apply(self, left: int, right: int, product: int) -> None:
        """Merge a pair chosen elsewhere; its product must be a token."""
        if self._meta[k.PHASE] == k.ACCEPT:  # put back what `best` showed
            if self._meta[k.HEAP] + 1 > len(self._arrays["hcount"]):
                self._grow()
            pair = int(self._meta[k.CANDIDATE])
            count = int(self._arrays["pcount"][pair])
            self._call("heap_push", count, pair, "meta hcount hpair pkey")
            self._meta[k.PHASE] = k.CHOOSE
        self.replay()
        self._add_rule(left, right, product)
        self.replay()

    def add_token(self, data: bytes) -> int:
        """Make a token without a rule and return its id."""
        meta, arrays = self._meta, self._arrays
        while meta[k.TOKENS] + 1 > len(arrays["tlen"]) or (
            meta[k.DATA] + len(data) > len(arrays["tdata"])
        ):
            self._grow()
        token, start = int(meta[k.TOKENS]), int(meta[k.DATA])
        arrays["tstart"][token], arrays["tlen"][token] = start, len(data)
        arrays["tsize"][token], arrays["tban"][token] = len(data), 0
        arrays["tspan"][token] = len(data)
        meta[k.LONGEST] = max(int(meta[k.LONGEST]), len(data))
        for offset, byte in enumerate(data):
            arrays["tdata"][start + offset] = byte
        meta[k.TOKENS], meta[k.DATA] = token + 1, start + len(data)
        slot = self._call("content_slot", token, -1, "tstart tlen tdata ttable")
        if arrays["ttable"][slot] < 0:
            arrays["ttable"][slot] = token
        return token

    def token(self, token_id: int) -> bytes:
        """Return the bytes of a token."""
        start = int(self._arrays["tstart"][token_id])
        return bytes(self._arrays["tdata"][start : start + int(self._arrays["tlen"][token_id])])

    def tokens(self) -> list[bytes]:
        """Return the bytes of all tokens by id."""
        return [self.token(token_id) for token_id in range(self.vocab_size)]

    def merges(self) -> Merges:
        """Return the rules applied so far, the given ones included."""
        num, arrays = int(self._meta[k.APPLIED]), self._arrays
        num = max(num, 0)

        def column(name: str) -> NDArray[np.int64]:
            return np.array(arrays[name][:num], dtype=np.int64)

        keys = np.asarray(arrays["pkey"], dtype=np.int64)[column("rpair")]
        return Merges(
            np.stack([keys >> 32, keys & 0xFFFFFFFF], axis=1),
            column("rprod"),
            column("rcount"),
            column("rtotal"),
        )

    def segmentation(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the ids of all words one after the other, and the index of each id's word."""
        size = len(self._arrays["sym"])
        ids: Any = np.empty(size, dtype=np.int64)
        words: Any = np.empty(size, dtype=np.int64)
        num = int(self._call("segments", "sym word tspan", ids, words))
        return ids[:num].copy(), words[:num].copy()


def _extended(array: Any, size: int, fill: int = 0) -> Any:
    if len(array) >= size:
        return array
    if isinstance(array, list):
        return array + [fill] * (size - len(array))
    grown = np.zeros(size, dtype=array.dtype)
    if fill:
        grown[len(array) :] = fill
    grown[: len(array)] = array
    return grown


# Arrays that grow: {name: (dtype, what its room depends on)}.
_GROWING: dict[str, tuple[Any, str]] = {
    "pkey": (np.int64, "pair"),
    "pcount": (np.int64, "pair"),
    "pstart": (np.int64, "pair"),
    "pnum": (np.int32, "pair"),
    "ppend": (np.int32, "pair"),
    "prank": (np.int32, "pair"),
    "touched": (np.int32, "pair"),
    "opos": (np.int32, "place"),
    "npair": (np.int32, "new"),
    "npos": (np.int32, "new"),
    "near": (np.int64, "neighbour"),
    "nlist": (np.int32, "neighbour"),
    "hcount": (np.int64, "heap"),
    "hpair": (np.int32, "heap"),
    "tstart": (np.int64, "token"),
    "tlen": (np.int32, "token"),
    "tsize": (np.int32, "token"),
    "tspan": (np.int32, "token"),
    "tban": (np.uint8, "token"),
    "tdata": (np.uint8, "data"),
    "rpair": (np.int32, "rule"),
    "rprod": (np.int32, "rule"),
    "rcount": (np.int64, "rule"),
    "rtotal": (np.int64, "rule"),
}
_ADVANCE = (
    "meta sym word weight pkey pcount pstart pnum ppend prank tkey tpair opos npair npos touched "
    "near nlist hcount hpair tstart tlen tsize tban tspan tdata ttable rpair rprod "
    "rcount rtotal"
)
