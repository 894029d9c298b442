"""Laws of every registered segmenter, and what each promises beyond them."""

import random
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from jeton.core.joining import join_pairs, joins_of
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError, TokenizerMismatchError
from jeton.learn.methods.bpe import Bpe
from jeton.learn.registry import SEGMENTERS
from jeton.learn.segmentation import Segmentation
from jeton.learn.segmenters.bpe_dropout import BpeDropout
from jeton.learn.segmenters.equal_info import ByteModel
from jeton.learn.segmenters.stochastok import Stochastok
from jeton.learn.splits import token_splits


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rng = random.Random(3)
    words = ["".join(rng.choices("abcdeé語", k=rng.randint(1, 7))) for _ in range(40)]
    return [" ".join(rng.choices(words, k=60)) + "\n" for _ in range(12)]


@pytest.fixture(scope="module")
def vocabulary(texts: list[str]) -> Vocabulary:
    return Bpe(special_tokens="<|end|>").learn(texts, vocab_size=330).vocabulary()


@pytest.fixture(scope="module")
def documents(vocabulary: Vocabulary, texts: list[str]) -> list[list[int]]:
    end = vocabulary.special_tokens["<|end|>"]
    noise = [vocabulary.encode(bytes(range(256)))]
    batch = [[*vocabulary.encode(text), end, *vocabulary.encode(text[:20])] for text in texts]
    return [*batch, *noise, [], [end, end], [batch[0][0]]]


def bytes_of(vocabulary: Vocabulary, segmentation: Segmentation, ids: Any) -> list[bytes | int]:
    """Return the bytes between special tokens, and the special tokens."""
    tokens = [*vocabulary.tokens, *segmentation.extra_tokens]
    special = set(vocabulary.special_tokens.values())
    parts: list[bytes | int] = [b""]
    for i in ids:
        if i in special:
            parts += [int(i), b""]
        else:
            parts[-1] += tokens[i]  # type: ignore[operator]
    return parts


@pytest.mark.parametrize("name", list(SEGMENTERS))
class TestEverySegmenter:
    def test_bytes_and_special_tokens_stay(
        self, name: str, vocabulary: Vocabulary, documents: list[list[int]]
    ) -> None:
        found = SEGMENTERS.create(name).segment(vocabulary, documents, seed=1)
        assert len(found.token_ids) == len(documents)
        assert any(list(a) != b for a, b in zip(found.token_ids, documents, strict=True))
        plain = Segmentation([])
        for ids, given in zip(found.token_ids, documents, strict=True):
            assert bytes_of(vocabulary, found, ids) == bytes_of(vocabulary, plain, given)

    def test_same_seed_same_result_and_the_input_stays(
        self, name: str, vocabulary: Vocabulary, documents: list[list[int]]
    ) -> None:
        given = [np.array(ids, dtype=np.int64) for ids in documents]
        first = SEGMENTERS.create(name).segment(vocabulary, given, seed=5)
        second = SEGMENTERS.create(name).segment(vocabulary, given, seed=5)
        assert all((a == b).all() for a, b in zip(first.token_ids, second.token_ids, strict=True))
        assert first.extra_tokens == second.extra_tokens
        assert all(list(a) == b for a, b in zip(given, documents, strict=True))

    def test_foreign_ids_are_refused(self, name: str, vocabulary: Vocabulary) -> None:
        for bad in ([vocabulary.vocab_size], [-1]):
            with pytest.raises(TokenizerMismatchError):
                SEGMENTERS.create(name).segment(vocabulary, [bad])
        assert SEGMENTERS.create(name).segment(vocabulary, []).token_ids == []


def test_stochastok_draws_the_published_law(
    vocabulary: Vocabulary, documents: list[list[int]]
) -> None:
    """Lengths and chosen pairs of many draws agree with the loop that the paper describes."""
    begins, left, right = splits = token_splits(vocabulary)
    token = max(range(vocabulary.vocab_size), key=lambda i: len(vocabulary.tokens[i]) * (i > 256))
    given = np.array([token, token, 300, token] * 3, dtype=np.int64)
    rng, python = np.random.default_rng(0), random.Random(0)
    ours, theirs = Counter[tuple[int, ...]](), Counter[tuple[int, ...]]()
    for _ in range(3000):
        ours[tuple(Stochastok(0.5).cut(given, splits, rng)[:3].tolist())] += 1
        ids = given.tolist()
        for _ in range(int(0.5 * len(given))):
            at = python.randrange(len(ids))
            ways = range(begins[ids[at]], begins[ids[at] + 1])
            if ways:
                way = python.choice(ways)
                ids[at : at + 1] = [int(left[way]), int(right[way])]
        theirs[tuple(ids[:3])] += 1
    for key, count in theirs.most_common(6):
        assert abs(ours[key] - count) < 6 * (count + ours[key]) ** 0.5
    whole = Stochastok(0.0).segment(vocabulary, documents)
    assert [list(ids) for ids in whole.token_ids] == documents
    with pytest.raises(ConfigError, match="share"):
        Stochastok(-1)


def test_bpe_dropout_ends_at_the_encoder_and_at_bytes(
    vocabulary: Vocabulary, texts: list[str]
) -> None:
    given = [vocabulary.encode(text) for text in texts]
    same = BpeDropout(dropout=0.0).segment(vocabulary, given)
    assert [ids.tolist() for ids in same.token_ids] == given
    single = BpeDropout(dropout=1.0).segment(vocabulary, given)
    assert [len(ids) for ids in single.token_ids] == [len(text.encode()) for text in texts]
    some = BpeDropout(dropout=0.3).segment(vocabulary, given)
    total = sum(map(len, some.token_ids))
    assert sum(map(len, given)) < total < sum(map(len, single.token_ids))


def published_dynamic(
    batch: list[list[int]], joins: list[int], num_merges: int
) -> tuple[list[list[int]], list[tuple[int, int]]]:
    """The loop of the paper: count all valid pairs anew, join the first most frequent one."""
    batch, joins, pairs = [list(ids) for ids in batch], list(joins), []
    for _ in range(num_merges):
        counts = Counter(
            (a, b) for ids in batch for a, b in pairwise(ids) if joins[a] and joins[b] == 1
        )
        if not counts or max(counts.values()) < 2:
            break
        pair = max(counts, key=lambda pair: counts[pair])  # of equal counts the first seen
        for ids in batch:
            i = 0
            while i + 1 < len(ids):
                if (ids[i], ids[i + 1]) == pair:
                    ids[i : i + 2] = [len(joins)]
                i += 1
        joins.append(joins[pair[0]])
        pairs.append(pair)
    return batch, pairs


@pytest.mark.parametrize("scope", ["word", "any"])
def test_dynamic_equals_the_published_loop(
    vocabulary: Vocabulary, documents: list[list[int]], scope: str
) -> None:
    joins = joins_of(vocabulary, scope)
    rng = random.Random(0)
    runs = [[rng.choice([300, 301]) for _ in range(40)] for _ in range(5)]
    for batch in (documents, runs, [[300] * 9]):
        wanted, pairs = published_dynamic(batch, joins.tolist(), 60)
        arrays = [np.array(ids, dtype=np.int64) for ids in batch]
        found, own = join_pairs(arrays, joins, 60)
        assert own == pairs
        assert [ids.tolist() for ids in found] == wanted


def test_equal_info_counts_are_smoothed_by_those_of_shorter_contexts() -> None:
    model = ByteModel.fit(b"ab" * 50)
    scale, a, b = model.cumulative[0, -1], ord("a"), ord("b")
    seen = np.diff(model.cumulative[[0, 1 + a, model.context[256 * a + b]]])[[0, 1, 2], [b, b, a]]
    start = 50.01 / 102.56
    after_one = (50 + 4 * start) / 54  # "b" after "a"
    after_two = (49 + 4 * (49 + 4 * start) / 53) / 53  # "a" after "ab"
    wanted = np.array([start, after_one, after_two])
    floor = 32 / scale  # of every byte, so that any text can be written
    assert seen / scale == pytest.approx(floor + (1 - 256 * floor) * wanted, abs=5e-4)


def test_equal_info_words_are_exact_and_carry_more_than_a_byte_each() -> None:
    rng = random.Random(1)
    text = " ".join(rng.choices(["the", "way", "of", "water", "and", "stone"], k=4000)).encode()
    model = ByteModel.fit(text)
    assert model.cumulative[:, 0].max() == 0 and (np.diff(model.cumulative) >= 1).all()
    assert (model.cumulative[:, -1] == 1 << 20).all()
    for data in (text[:5000], b"", b"\0\xff" * 40, bytes(range(256)), b"a" * 70_000):
        words = model.encode(data)
        assert model.decode(words) == data
        assert words.max(initial=0) < 1 << 16
    assert len(text) / len(model.encode(text)) > 5
    with pytest.raises(TokenizerMismatchError):
        model.decode([1 << 16])
