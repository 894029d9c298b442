"""Vocabularies of scored pieces: the lattice against brute force, unigram, Less-is-Better."""

import itertools
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

from jeton.learn.lattice import PieceTrie
from jeton.learn.methods.bpe import Bpe
from jeton.learn.methods.lib import Lib
from jeton.learn.methods.unigram import Unigram, _digamma
from jeton.learn.packed import PackedCounts

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "learn"
METHODS = {"unigram": Unigram, "lib": Lib}


def all_cuts(word: bytes, pieces: dict[bytes, float]) -> list[list[bytes]]:
    if not word:
        return [[]]
    found = []
    for size in range(1, len(word) + 1):
        if word[:size] in pieces:
            found += [[word[:size], *rest] for rest in all_cuts(word[size:], pieces)]
    return found


@pytest.fixture(scope="module")
def lattice() -> tuple[dict[bytes, float], list[bytes]]:
    rng = random.Random(1)
    pieces = {bytes([97 + i]): -5.0 - i for i in range(3)}
    for size in (2, 3):
        for letters in itertools.product(b"abc", repeat=size):
            if rng.random() < 0.5:
                pieces[bytes(letters)] = -rng.random() * 8
    return pieces, [bytes(rng.choices(b"abc", k=rng.randint(1, 8))) for _ in range(40)]


def test_best_cut_is_the_best_of_all(lattice: tuple[dict[bytes, float], list[bytes]]) -> None:
    pieces, words = lattice
    names = list(pieces)
    counted = PackedCounts.pack(dict.fromkeys(words, 1))
    trie = PieceTrie(names, np.array(list(pieces.values())))
    cuts, ends = trie.best_cuts(counted)
    for word, found in zip(counted, np.split(cuts, ends[:-1]), strict=True):
        own = [names[i] for i in found]
        assert b"".join(own) == word
        best = max(sum(pieces[p] for p in cut) for cut in all_cuts(word, pieces))
        assert sum(pieces[p] for p in own) == pytest.approx(best)
    others, ends = trie.best_cuts(counted, skips_whole=True)
    for word, found in zip(counted, np.split(others, ends[:-1]), strict=True):
        assert len(found) != 1
        assert len(word) == 1 or b"".join(names[i] for i in found) == word


def test_expected_uses_are_those_over_all_cuts(
    lattice: tuple[dict[bytes, float], list[bytes]],
) -> None:
    pieces, words = lattice
    names = list(pieces)
    counted = PackedCounts.pack({word: 1 + len(word) for word in words})
    expected, total = PieceTrie(names, np.array(list(pieces.values()))).expected_uses(counted)
    wanted, logprob = dict.fromkeys(names, 0.0), 0.0
    for word, count in counted.items():
        cuts = all_cuts(word, pieces)
        weights = [math.exp(sum(pieces[p] for p in cut)) for cut in cuts]
        logprob += count * math.log(sum(weights))
        for cut, weight in zip(cuts, weights, strict=True):
            for piece in cut:
                wanted[piece] += count * weight / sum(weights)
    assert total == pytest.approx(logprob)
    assert expected == pytest.approx(np.array([wanted[name] for name in names]))


def test_digamma() -> None:
    # psi(1) = -gamma, psi(1/2) = -gamma - 2 ln 2, psi(x + 1) = psi(x) + 1/x
    gamma = 0.5772156649015329
    found = _digamma(np.array([1.0, 0.5, 7.25, 8.25, 1e6]))
    assert found[:2] == pytest.approx([-gamma, -gamma - 2 * math.log(2)], abs=1e-9)
    assert found[3] - found[2] == pytest.approx(1 / 7.25)
    assert found[4] == pytest.approx(math.log(1e6), abs=1e-6)


def phrases() -> list[str]:
    rng = random.Random(0)
    names = ["".join(rng.choices("abcdefghik", k=rng.randint(3, 6))) for _ in range(30)]
    parts = ["by the way", "on the other hand", "as well as", *names]
    return [" ".join(rng.choice(parts) for _ in range(12)) + "\n" for _ in range(150)]


def test_unigram_is_about_as_short_as_bpe_and_finds_the_words() -> None:
    texts = phrases()
    learned = Unigram().learn(texts, vocab_size=320)
    assert learned.bytes_per_token > 0.9 * Bpe().learn(texts, vocab_size=320).bytes_per_token
    assert {b" other", b" hand"} <= set(learned.vocabulary().tokens)


def test_lib_needs_fewer_tokens_than_bpe_and_finds_phrases() -> None:
    texts = phrases()
    learned = Lib().learn(texts[:120], vocab_size=330)
    plain = Bpe().learn(texts[:120], vocab_size=330)
    held_out = [len(v.vocabulary().encode("".join(texts[120:]))) for v in (learned, plain)]
    assert held_out[0] < 0.95 * held_out[1]
    assert any(b" " in token.strip() for token in learned.vocabulary().tokens)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_golden(name: str) -> None:
    case = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    learned = METHODS[name](**case["options"]).learn(case["texts"], vocab_size=case["vocab_size"])
    vocabulary = learned.vocabulary()
    assert [token.decode() for token in vocabulary.tokens[256:]] == case["new_tokens"]
    for text, pieces in case["segmentations"].items():
        assert [vocabulary.tokens[i].decode() for i in vocabulary.encode(text)] == pieces
