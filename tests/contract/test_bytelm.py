"""Laws of stems over a token model given as a table: sums, chains, covers, bounds."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

from jeton.bytelm.contract import END, FreeRule, Measure
from jeton.bytelm.lexicon import Lexicon
from jeton.bytelm.rules import canonical_rule
from jeton.bytelm.stems import Settings, Stems
from jeton.testing.bytelm import BruteForce, TableLM, all_texts, toy_vocabulary

GOLDEN = Path(__file__).parents[1] / "golden" / "bytelm" / "worked_example.json"
MEASURES = ("canonical", "all")


def begin(vocabulary, law, measure, *, epsilon=0.0, max_stems=512) -> Stems:
    rule = FreeRule() if measure == "all" else canonical_rule(vocabulary)
    lexicon = Lexicon(vocabulary)
    settings = Settings(TableLM(law), lexicon, rule, Measure(measure), epsilon, max_stems)
    return Stems.begin(settings, 0)


def follow(stems: Stems, data: bytes) -> Stems:
    for byte in data:
        stems = stems.advance(byte)
    return stems


def random_case(seed: int):
    """A vocabulary of a few merges over a, b, c, and a law that looks at the last two tokens."""
    rng = random.Random(seed)
    tokens, merges = ["a", "b", "c"], []
    while len(tokens) < 9:
        pair = (rng.choice(tokens), rng.choice(tokens))
        if "".join(pair) not in tokens and len("".join(pair)) <= 4:
            merges.append(pair)
            tokens.append("".join(pair))
    table = np.random.default_rng(seed).dirichlet(np.ones(10), size=(11, 11))
    return toy_vocabulary(tokens, merges), lambda path: table[(10, 10, *path)[-2:]]


@pytest.mark.parametrize("measure", MEASURES)
def test_worked_example(measure: str) -> None:
    golden = json.loads(GOLDEN.read_text())
    vocabulary = toy_vocabulary(golden["tokens"], [tuple(m) for m in golden["merges"]])
    start = begin(vocabulary, lambda path: np.array(golden["probabilities"]), measure)
    for asked, expected in golden["expected"][measure].items():
        target, _, given = asked.partition("|")
        before = follow(start, given.encode())
        after = follow(before, target.rstrip("$").encode())
        found = float(after.symbol_logs()[END]) if target.endswith("$") else after.logprob
        assert math.isclose(math.exp(found - before.logprob), expected, abs_tol=1e-9), asked


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("seed", range(4))
def test_brute_force_chain_and_sum(measure: str, seed: int) -> None:
    vocabulary, law = random_case(seed)
    brute = BruteForce(vocabulary, law, is_canonical=measure == "canonical")
    start = begin(vocabulary, law, measure)
    for text in random.Random(seed).sample(all_texts(b"abc", 5), 6):
        stems, chain = start, 0.0
        for byte in text:
            logs = stems.symbol_logs()
            total = float(np.logaddexp.reduce(logs))
            assert math.isclose(total, stems.logprob, abs_tol=1e-12)
            chain += float(logs[byte]) - total
            stems = stems.advance(byte)
        assert math.isclose(chain, stems.logprob, abs_tol=1e-9)
        assert math.isclose(math.exp(stems.logprob), brute.prefix(text), abs_tol=1e-9)
        assert math.isclose(math.exp(stems.symbol_logs()[END]), brute.whole(text), abs_tol=1e-9)
        mass = sum(math.exp(logprob) for _, logprob in stems.covers())
        assert math.isclose(mass, math.exp(stems.logprob), abs_tol=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_bounds_of_deferral_hold_and_close(seed: int) -> None:
    vocabulary, law = random_case(seed)
    brute = BruteForce(vocabulary, law)
    widths = []
    for epsilon, cap in ((0.3, 512), (0.0, 1), (0.0, 512)):
        stems, widest = begin(vocabulary, law, "all", epsilon=epsilon, max_stems=cap), 0.0
        for at, byte in enumerate(b"abcabca"):
            stems = stems.advance(byte)
            low, high = stems.logprob, float(np.logaddexp(stems.logprob, stems.log_unread))
            truth = math.log(brute.prefix(b"abcabca"[: at + 1]))
            assert low - 1e-12 <= truth <= high + 1e-12
            widest = max(widest, high - low)
        widths.append(widest)
    assert 0.0 < widths[0] <= math.log1p(0.3) + 1e-12
    assert widths[1] > 0.0
    assert widths[2] == 0.0


def test_fast_reports_what_it_loses() -> None:
    vocabulary, law = random_case(2)
    stems, chain = begin(vocabulary, law, "fast"), 0.0
    for byte in b"abcabc":
        logs = stems.symbol_logs()
        chain += float(logs[byte] - np.logaddexp.reduce(logs))
        stems = stems.advance(byte)
    assert stems.leak < -1e-6
    assert math.isclose(chain + stems.leak, stems.logprob, abs_tol=1e-9)
