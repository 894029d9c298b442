"""The merge engine against a plain reference, compiled and not."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jeton.errors import ConfigError
from jeton.learn.engine import MergeEngine, Words

BYTES = [bytes([byte]) for byte in range(256)]
BYTE_IDS = np.arange(256, dtype=np.int32)
WORDS = st.dictionaries(
    st.lists(st.sampled_from([b"a", b"b", b"ab", b"c"]), min_size=1, max_size=12).map(b"".join),
    st.integers(1, 5),
    min_size=1,
    max_size=12,
)


def words_of(counts: dict[bytes, int]) -> Words:
    return Words.from_bytes(sorted(counts.items()), BYTE_IDS)


def encode(word: bytes, ranks: dict[tuple[int, int], tuple[int, int]]) -> list[int]:
    """Apply the rule of the lowest rank at its leftmost place until none applies."""
    ids = list(word)
    while True:
        found = [(ranks[pair][0], i) for i, pair in enumerate(pairwise(ids)) if pair in ranks]
        if not found:
            return ids
        _, i = min(found)
        ids[i : i + 2] = [ranks[ids[i], ids[i + 1]][1]]


def reference(
    counts: dict[bytes, int], num_merges: int
) -> tuple[list[tuple[int, int]], list[bytes], dict[tuple[int, int], tuple[int, int]]]:
    """Learn merges naively: encode everything anew with all rules before each choice."""
    tokens, merges = list(BYTES), []
    ranks: dict[tuple[int, int], tuple[int, int]] = {}
    while len(merges) < num_merges:
        pairs: Counter[tuple[int, int]] = Counter()
        for word, count in counts.items():
            ids = encode(word, ranks)
            for pair in pairwise(ids):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        data = tokens[best[0]] + tokens[best[1]]
        if data not in tokens:
            tokens.append(data)
        ranks[best] = (len(merges), tokens.index(data))
        merges.append(best)
    return merges, tokens, ranks


@settings(max_examples=80, deadline=None, derandomize=True)
@given(counts=WORDS, num_merges=st.integers(0, 12))
def test_merges_equal_the_reference(counts: dict[bytes, int], num_merges: int) -> None:
    merges, tokens, ranks = reference(counts, num_merges)
    for backend in ("numba", "python"):
        engine = MergeEngine(words_of(counts), BYTES, backend=backend)
        engine.learn(num_merges=num_merges)
        found = engine.merges()
        assert [tuple(pair) for pair in found.pairs.tolist()] == merges
        assert engine.tokens() == tokens
        total = sum(n * len(encode(word, ranks)) for word, n in counts.items())
        assert engine.num_tokens == total
        ids, word_of = engine.segmentation()
        for index, word in enumerate(sorted(counts)):
            assert ids[word_of == index].tolist() == encode(word, ranks)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(first=WORDS, second=WORDS, split=st.integers(0, 8))
def test_extending_equals_learning_in_one_go(
    first: dict[bytes, int], second: dict[bytes, int], split: int
) -> None:
    merges, tokens, ranks = reference(first, split)
    rules = [(a, b, ranks[a, b][1]) for a, b in merges]
    for backend in ("numba", "python"):
        engine = MergeEngine(words_of(second), tokens, rules=rules, backend=backend)
        engine.replay()
        assert engine.num_tokens == sum(n * len(encode(w, ranks)) for w, n in second.items())
        engine.learn(num_merges=4)
        all_ranks = {
            (a, b): (rank, product)
            for rank, ((a, b), product) in enumerate(
                zip(engine.merges().pairs.tolist(), engine.merges().products.tolist(), strict=True)
            )
        }
        assert engine.num_tokens == sum(n * len(encode(w, all_ranks)) for w, n in second.items())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(counts=WORDS)
def test_step_by_step_equals_one_run(counts: dict[bytes, int]) -> None:
    whole = MergeEngine(words_of(counts), BYTES, backend="python")
    whole.learn(num_merges=8)
    stepped = MergeEngine(words_of(counts), BYTES, backend="python")
    applied = MergeEngine(words_of(counts), BYTES, backend="python")
    for (left, right), product in zip(
        whole.merges().pairs.tolist(), whole.merges().products.tolist(), strict=True
    ):
        assert stepped.best() is not None
        assert stepped.best()[:2] == (left, right)  # type: ignore[index]
        stepped.accept()
        applied.best()
        if product == applied.vocab_size:
            applied.add_token(whole.token(product))
        applied.apply(left, right, product)
        assert applied.num_tokens == stepped.num_tokens
    assert stepped.merges().num_tokens.tolist() == whole.merges().num_tokens.tolist()


def test_limits_veto_and_banned_tokens() -> None:
    counts = {b"abcd" * 3: 5, b"abc": 30}
    engine = MergeEngine(words_of(counts), BYTES, max_token_size=3)
    assert not engine.learn(1000)
    assert max(map(len, engine.tokens())) == 3
    engine = MergeEngine(words_of(counts), [*BYTES, b"ab"], banned=[256])
    engine.learn(1000)
    assert engine.tokens().count(b"ab") == 1 and 256 not in engine.merges().products
    engine = MergeEngine(words_of(counts), BYTES)
    engine.learn(1000, veto=lambda left, right: right == b"b")
    assert len(engine.merges())
    assert all(engine.token(right) != b"b" for _, right in engine.merges().pairs)
    engine = MergeEngine(words_of(counts), BYTES, min_count=20)
    engine.learn(1000)
    assert engine.merges().counts.min() >= 20 if len(engine.merges()) else True
    with pytest.raises(ConfigError, match="backend"):
        MergeEngine(words_of(counts), BYTES, backend="cuda")


def test_counts_beyond_32_bits() -> None:
    engine = MergeEngine(words_of({b"ab": 2**40, b"cd": 2**40 + 1}), BYTES)
    engine.learn(num_merges=2)
    assert engine.merges().counts.tolist() == [2**40 + 1, 2**40]


def test_bytes_without_a_token_are_never_merged() -> None:
    byte_ids = BYTE_IDS.copy()
    byte_ids[ord("b")] = -1
    engine = MergeEngine(Words.from_bytes([(b"aabaa", 3)], byte_ids), BYTES)
    engine.learn(1000)
    assert engine.tokens()[256:] == [b"aa"]
    assert engine.segmentation()[0].tolist() == [256, -1, 256]
