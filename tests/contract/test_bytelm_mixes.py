"""Ensembles and speculation: laws proven by enumeration over toy models."""

import itertools
import math

import numpy as np
import pytest

from jeton.bytelm.byte_lm import ByteLM
from jeton.bytelm.contract import END
from jeton.bytelm.ensemble import Ensemble, Mix, mix_logprobs
from jeton.bytelm.speculation import accept, speculate
from jeton.errors import ConfigError
from jeton.testing.bytelm import TableLM, all_texts, toy_vocabulary
from jeton.testing.models import tiny_language_model


def toy(tokens, merges, seed: int) -> ByteLM:
    table = np.random.default_rng(seed).dirichlet(np.ones(len(tokens) + 1), size=len(tokens) + 2)
    vocabulary = toy_vocabulary(tokens, merges)
    law = TableLM(lambda path: table[path[-1] if path else -1])
    return ByteLM(law, vocabulary, start_ids=[])


@pytest.fixture(scope="module")
def pair() -> list[ByteLM]:
    return [
        toy(["a", "b", "ab"], [("a", "b")], 0),
        toy(["a", "b", "ba", "aa"], [("b", "a"), ("a", "a")], 1),
    ]


def whole(model: ByteLM, text: bytes) -> float:
    state = model.state().advance(text)
    return math.exp(state.logprob + state.next_logprobs()[END])


@pytest.mark.parametrize("mix", list(Mix))
def test_an_ensemble_is_a_law_of_texts(pair: list[ByteLM], mix: str) -> None:
    ensemble = Ensemble(pair, mix, weights=[1.0, 3.0])
    for text in all_texts(b"ab", 3):
        scores = ensemble.score(text)
        state = ensemble.state()
        for place, byte in enumerate(text):
            logprobs = state.next_logprobs()
            assert math.isclose(float(np.exp(logprobs).sum()), 1.0, abs_tol=1e-9)
            assert math.isclose(logprobs[byte], scores[place], abs_tol=1e-9)
            state = state.advance(byte)
        assert math.isclose(state.next_logprobs()[END], scores[-1], abs_tol=1e-9)


def test_bayes_is_the_mixture_of_texts(pair: list[ByteLM]) -> None:
    ensemble = Ensemble(pair, "bayes", weights=[1.0, 3.0])
    for text in all_texts(b"ab", 3):
        expected = 0.25 * whole(pair[0], text) + 0.75 * whole(pair[1], text)
        assert math.isclose(math.exp(ensemble.score(text).sum()), expected, abs_tol=1e-9)


def test_product_by_hand() -> None:
    rows = np.log([[0.8, 0.2], [0.2, 0.8]])
    found = np.exp(mix_logprobs(rows, np.zeros(2), Mix.PRODUCT))
    assert np.allclose(found, [0.5, 0.5])


@pytest.mark.parametrize(
    ("models", "options"), [([], {}), ([1], {"mix": "sum"}), ([1, 2], {"weights": [1.0, -1.0]})]
)
def test_mistakes_are_refused(models: list, options: dict) -> None:
    with pytest.raises(ConfigError):
        Ensemble(models, **options)


class Tree:
    """Takes every way through the draws, one per run, and knows its probability."""

    def __init__(self, path: list[int]) -> None:
        self.path, self.used, self.probability, self.widths = path, 0, 1.0, []

    def _next(self, p) -> int:
        way = self.path[self.used] if self.used < len(self.path) else 0
        self.used += 1
        self.widths.append(len(p))
        self.probability *= float(p[way])
        return way

    def symbol(self, p) -> int:
        return self._next(np.asarray(p) / np.sum(p))

    def accepts(self, probability: float) -> bool:
        return self._next([probability, 1.0 - probability]) == 0


def test_speculation_keeps_the_law_by_enumeration(pair: list[ByteLM]) -> None:
    """All drafts of two symbols with all draws: the first two symbols have the target's law."""
    target, draft = pair
    symbols = [ord("a"), ord("b"), END]

    def law(state) -> np.ndarray:
        p = np.zeros(257)
        p[symbols] = np.exp(state.next_logprobs()[symbols])
        return p

    found: dict[tuple[int, ...], float] = {}
    for drafted in itertools.product(symbols, repeat=2):
        if drafted[0] == END:
            continue
        t0, d0 = target.state(), draft.state()
        first = bytes(drafted[:1])
        drafts = [law(d0), law(d0.advance(first))]
        targets = [law(t0), law(t0.advance(first)), np.eye(257)[ord("a")]]
        if drafted[1] != END:
            targets[2] = law(t0.advance(bytes(drafted)))
        weight = float(drafts[0][drafted[0]] * drafts[1][drafted[1]])
        stack: list[list[int]] = [[]]
        while stack:
            path = stack.pop()
            draws = Tree(path)
            kept = tuple(accept(list(drafted), drafts, targets, draws))
            for place in range(len(path), draws.used):  # the other ways from here on
                stack += [
                    [*path, *[0] * (place - len(path)), way]
                    for way in range(1, draws.widths[place])
                    if draws.widths[place] == 2 or way in symbols
                ]
            if draws.probability > 0.0:
                found[kept] = found.get(kept, 0.0) + weight * draws.probability
    first_law = np.zeros(257)
    for kept, probability in found.items():
        first_law[kept[0]] += probability
    # a draft that begins with the end is left out above: its share goes to the first symbol
    share = float(law(draft.state())[END])
    expected = law(target.state())
    d, t = law(draft.state()), expected
    rest = np.maximum(t - d, 0.0)
    first_law[END] += share * min(1.0, t[END] / d[END])
    first_law += share * (1.0 - min(1.0, t[END] / d[END])) * rest / rest.sum()
    assert np.allclose(first_law, expected, atol=1e-12)
    for byte in b"ab":
        second = np.zeros(257)
        for kept, probability in found.items():
            if kept[0] == byte and len(kept) > 1:
                second[kept[1]] += probability
        assert np.allclose(second / second.sum(), law(target.state().advance(byte)), atol=1e-12), (
            byte
        )


def test_speculation_runs_over_models() -> None:
    target, draft = ByteLM(tiny_language_model("llama")), ByteLM(tiny_language_model("gpt2"))
    result = speculate(target, draft, b"def ", max_bytes=12, num_draft_bytes=4, seed=1)
    assert 0 < len(result.data) <= 12
    assert result.num_accepted <= result.num_drafted
    assert result == speculate(target, draft, b"def ", max_bytes=12, num_draft_bytes=4, seed=1)


def test_a_product_weighs_each_model_by_its_share() -> None:
    rows = np.log([[0.8, 0.2], [0.5, 0.5]])
    found = np.exp(mix_logprobs(rows, np.log([3.0, 1.0]), Mix.PRODUCT))
    first, second = 0.8**0.75 * 0.5**0.25, 0.2**0.75 * 0.5**0.25
    assert found == pytest.approx([first / (first + second), second / (first + second)])
