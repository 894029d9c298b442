"""The replay of a merge list over several categories of text."""

import random
from collections import Counter
from itertools import pairwise

import numpy as np

from jeton.audit.replay import replay

BYTE_IDS = list(range(256))


def merge_word(word: list[int], left: int, right: int, result: int) -> list[int]:
    merged, i = [], 0
    while i < len(word):
        if word[i : i + 2] == [left, right]:
            merged.append(result)
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return merged


def test_counts_at_every_merge_are_those_of_a_plain_replay() -> None:
    generator = random.Random(0)
    categories = []
    for letters in (b"ab", b"aabc"):
        words = [bytes(generator.choices(letters, k=generator.randint(1, 9))) for _ in range(40)]
        categories.append(Counter({word: generator.randint(1, 5) for word in words}))
    merges = np.array([(97, 97, 256), (97, 98, 257), (256, 256, 258), (98, 98, 259), (1, 2, 260)])
    log = replay(categories, BYTE_IDS, merges)
    plain = [[(list(word), n) for word, n in sorted(counts.items())] for counts in categories]
    for step, counts, _ in log.walk():
        for category, words in enumerate(plain):
            expected: Counter[tuple[int, int]] = Counter()
            for word, n in words:
                for pair in pairwise(word):
                    expected[pair] += n
            pairs = map(tuple, log.pairs.tolist())
            found = dict(zip(pairs, counts[:, category].tolist(), strict=True))
            assert {pair: n for pair, n in found.items() if n} == expected
        left, right, result = merges[step].tolist()
        for index, words in enumerate(plain):
            plain[index] = [(merge_word(word, left, right, result), n) for word, n in words]
    assert log.merged[4] == -1  # bytes 1 and 2 never meet


def test_one_letter_words_and_an_empty_category_have_no_pairs() -> None:
    log = replay([Counter({b"a": 3}), Counter()], BYTE_IDS, np.array([(97, 97, 256)]))
    assert len(log.pairs) == 0
    assert log.merged.tolist() == [-1]
