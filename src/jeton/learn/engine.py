"""The merge engine: apply merges to counted words, and learn more, one pair at a time.

Learning afresh, extending a vocabulary, replaying a merge list and learning across words are
configurations of this one engine. Counts are int64; among pairs of equal count the one with the
lower ids is merged first, as Hugging Face `tokenizers` does.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jeton.errors import ConfigError
from jeton.learn import kernels as k
from jeton.learn.compiling import HAS_NUMBA
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
        min_count: int = 1,
        reapply: bool = True,
        backend: str = "auto",
    ) -> None:
        if backend not in ("auto", "numba", "python"):
            raise ConfigError(f"backend must be auto, numba or python, got {backend!r}")
        if backend == "numba" and not HAS_NUMBA:
            raise ConfigError("numba is not installed", hint="pip install numba")
        is_compiled = HAS_NUMBA and backend != "python"
        self._kernels = k.functions(is_compiled)
        self._meta: Any = np.zeros(k.NUM_META, dtype=np.int64)
        self._meta[k.MIN_COUNT] = max(1, min_count)
        self._meta[k.MAX_SIZE] = NO_LIMIT if max_token_size is None else max_token_size
        self._meta[k.REAPPLY] = reapply
        self._arrays: dict[str, Any] = {}
        self._set_words(words)
        self._set_tokens(tokens, banned, sizes)
        for name, (dtype, _) in _GROWING.items():
            self._arrays.setdefault(name, np.zeros(0, dtype=dtype))
        if not is_compiled:
            self._meta = self._meta.tolist()
            self._arrays = {name: array.tolist() for name, array in self._arrays.items()}
        self._set_rules(rules)
        self._count()

    def _set_words(self, words: Words) -> None:
        size, starts = len(words.symbols), np.concatenate([[0], words.ends[:-1]])
        lengths = words.ends - starts
        filled = lengths > 0
        positions = np.arange(size, dtype=np.int32)
        prv, nxt = positions - 1, positions + 1
        prv[starts[filled]] = -1
        nxt[words.ends[filled] - 1] = -1
        word = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        self._arrays |= {
            "sym": words.symbols.astype(np.int32, copy=True),
            "prv": prv,
            "nxt": nxt,
            "word": word,
            "weight": words.counts.astype(np.int64, copy=True),
            # Each merge removes a symbol and makes at most two new occurrences.
            "opos": np.zeros(3 * size + 1, dtype=np.int32),
            "onext": np.zeros(3 * size + 1, dtype=np.int32),
        }
        self._meta[k.TOTAL] = int((lengths * words.counts).sum())
        self._meta[k.LONGEST] = int(lengths.max(initial=0))

    def _set_tokens(
        self, tokens: Sequence[bytes], banned: Sequence[int], sizes: Sequence[int] | None
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
            "tdata": np.frombuffer(b"".join(tokens), dtype=np.uint8).copy(),
            "table": np.zeros(0, dtype=np.int32),
            "ttable": np.zeros(0, dtype=np.int32),
        }
        self._meta[k.TOKENS] = len(tokens)
        self._meta[k.DATA] = int(lengths.sum())

    def _set_rules(self, rules: Sequence[tuple[int, int, int]]) -> None:
        self._grow(at_least=2 * len(rules) + 64)
        for left, right, product in rules:
            self._add_rule(left, right, product)

    def _add_rule(self, left: int, right: int, product: int) -> None:
        meta, arrays = self._meta, self._arrays
        if meta[k.RULES] + 1 > len(arrays["rpair"]) or meta[k.PAIRS] + 1 > len(arrays["pa"]):
            self._grow()
        pair = int(self._call("pair_of", left, right, "meta pa pb table pcount"))
        rank = int(meta[k.RULES])
        arrays["rpair"][rank], arrays["rprod"][rank] = pair, product
        arrays["prank"][pair] = rank
        meta[k.RULES] = meta[k.FORCED] = rank + 1

    def _count(self) -> None:
        """Count the pairs of the text and fill the heap."""
        position, size = 0, len(self._arrays["sym"])
        while position < size:
            position = int(
                self._call(
                    "count_all",
                    "meta sym nxt word weight pa pb pcount phead ptail pstamp table opos onext "
                    "tsize touched",
                    position,
                    len(self._arrays["pa"]),
                )
            )
            if position < size:
                self._grow()
        self._meta[k.PHASE] = k.PUSH
        self._meta[k.APPLIED] = -1  # the push of the first counts is step 0

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
        meta, room = self._meta, {}
        longest = 2 * int(meta[k.LONGEST]) + 8
        for kind, used in (
            ("pair", meta[k.PAIRS] + longest),
            ("heap", meta[k.HEAP] + meta[k.TOUCHED]),
            ("token", meta[k.TOKENS] + 1),
            ("data", meta[k.DATA] + 256 + int(max(self._arrays["tlen"], default=0)) * 2),
            ("rule", meta[k.RULES] + 1),
        ):
            room[kind] = max(2 * int(used), at_least, 1024)
        for name, (_, kind) in _GROWING.items():
            self._arrays[name] = _extended(self._arrays[name], room[kind], _FILL.get(name, 0))
        slots = 1 << (2 * len(self._arrays["pa"]) - 1).bit_length()
        if slots > len(self._arrays["table"]):
            self._arrays["table"] = _extended(self._arrays["table"][:0], slots, -1)
            self._call("rehash", "meta pa pb table")
        slots = 1 << (2 * len(self._arrays["tlen"]) - 1).bit_length()
        if slots > len(self._arrays["ttable"]):
            self._arrays["ttable"] = _extended(self._arrays["ttable"][:0], slots, -1)
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
            left, right = self._arrays["pa"][pair], self._arrays["pb"][pair]
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
        arrays = self._arrays
        return int(arrays["pa"][pair]), int(arrays["pb"][pair]), int(arrays["pcount"][pair])

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
        pair = arrays["rpair"][rank]
        return int(arrays["pa"][pair]), int(arrays["pb"][pair]), int(arrays["rprod"][rank])

    def apply(self, left: int, right: int, product: int) -> None:
        """Merge a pair chosen elsewhere; its product must be a token."""
        if self._meta[k.PHASE] == k.ACCEPT:  # put back what `best` showed
            if self._meta[k.HEAP] + 1 > len(self._arrays["hcount"]):
                self._grow()
            pair = int(self._meta[k.CANDIDATE])
            count = int(self._arrays["pcount"][pair])
            self._call("heap_push", count, pair, "meta hcount hpair pa pb")
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

        pairs = column("rpair")
        left, right = (np.asarray(arrays[name], dtype=np.int64) for name in ("pa", "pb"))
        return Merges(
            np.stack([left[pairs], right[pairs]], axis=1),
            column("rprod"),
            column("rcount"),
            column("rtotal"),
        )

    def segmentation(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the ids of all words one after the other, and the index of each id's word."""
        symbols, word = (np.asarray(self._arrays[n], dtype=np.int64) for n in ("sym", "word"))
        is_live = symbols > -2
        return symbols[is_live], word[is_live]


def _extended(array: Any, size: int, fill: int) -> Any:
    if len(array) >= size:
        return array
    if isinstance(array, list):
        return array + [fill] * (size - len(array))
    grown = np.full(size, fill, dtype=array.dtype)
    grown[: len(array)] = array
    return grown


# Arrays that grow: {name: (dtype, what its room depends on)}.
_GROWING: dict[str, tuple[Any, str]] = {
    "pa": (np.int32, "pair"),
    "pb": (np.int32, "pair"),
    "pcount": (np.int64, "pair"),
    "phead": (np.int32, "pair"),
    "ptail": (np.int32, "pair"),
    "prank": (np.int32, "pair"),
    "pstamp": (np.int32, "pair"),
    "touched": (np.int32, "pair"),
    "hcount": (np.int64, "heap"),
    "hpair": (np.int32, "heap"),
    "tstart": (np.int64, "token"),
    "tlen": (np.int32, "token"),
    "tsize": (np.int32, "token"),
    "tban": (np.uint8, "token"),
    "tdata": (np.uint8, "data"),
    "rpair": (np.int32, "rule"),
    "rprod": (np.int32, "rule"),
    "rcount": (np.int64, "rule"),
    "rtotal": (np.int64, "rule"),
}
_FILL = {"phead": -1, "ptail": -1, "prank": -1, "pstamp": -1}
_ADVANCE = (
    "meta sym prv nxt word weight pa pb pcount phead ptail prank pstamp table opos onext touched "
    "hcount hpair tstart tlen tsize tban tdata ttable rpair rprod rcount rtotal"
)
