"""What an audit asks of a model."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from jeton.audit.asking import choose
from jeton.audit.evidence import AuditInput, Embeddings, FloatArray
from jeton.audit.metrics.adt import Trap, measure_damage
from jeton.audit.metrics.under_trained import largest_probability
from jeton.audit.model import AskedModel, with_model
from jeton.audit.registry import METRICS
from jeton.audit.run import ASKED, audit
from jeton.core.vocabulary import Vocabulary
from jeton.errors import TokenizerMismatchError
from jeton.lm.load import load_model
from jeton.starter import starter_path


class Knows:
    """Finds what it knows certain, and everything else impossible."""

    def __init__(self, vocabulary: Vocabulary, known: Sequence[str]) -> None:
        self._vocabulary = vocabulary
        self._known = [text.encode() for text in known]

    def answer_logprobs(
        self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
    ) -> FloatArray:
        texts = [self._vocabulary.bytes_of([*p, *a]) for p, a in zip(prompts, answers, strict=True)]
        return np.array([0.0 if any(k in t for k in self._known) else -9.0 for t in texts])


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    texts = ["the cart and the art of the star", "part of a starling in the dark park"] * 3
    tokenizer.train_from_iterator(texts, trainer)
    return Vocabulary.from_tokenizer_json(tokenizer.to_str(), name="tiny")


def test_choice_is_the_most_probable_option(vocabulary: Vocabulary) -> None:
    knows = Knows(vocabulary, ["art is b", "cart is c"])
    options = [[" a", " b"], [" c", " cc", " d"]]
    assert choose(knows, vocabulary, ["art is", "cart is"], options) == [1, 0]


def test_accuracy_of_a_model_that_knows_everything_and_of_one_that_knows_nothing(
    vocabulary: Vocabulary,
) -> None:
    given = AuditInput(vocabulary, model=Knows(vocabulary, []))
    metric = METRICS.create("digit_arithmetic", {"num_items": 12})
    assert metric.measure(given).groups["accuracy, all"] == 1.0  # a tie takes the first, the sum
    tasks = METRICS.create("character_tasks", {"num_tasks": 10})
    answers = [f"{w.token} Answer: {w.detail}" for w in tasks.measure(given).witnesses]
    right = replace(given, model=Knows(vocabulary, answers))
    assert tasks.measure(right).groups["accuracy, all"] == 1.0
    assert tasks.measure(given).groups["accuracy, all"] < 0.5


def test_damage_of_adversarial_strings_is_the_share_of_borders_not_found(
    vocabulary: Vocabulary,
) -> None:
    knows = Knows(vocabulary, ["thepart -> the part", "cartdark -> cart dark"])
    given = AuditInput(vocabulary, model=knows)
    traps = [Trap("the", "part", "ep"), Trap("star", "art", "ra")]
    honest = [Trap("cart", "dark", "td")]
    found = measure_damage(given, traps[:1], honest)
    assert found == {"accuracy, traps": 1.0, "accuracy, other pairs": 1.0}
    misled = replace(given, model=Knows(vocabulary, ["thepart -> th epart"]))
    assert measure_damage(misled, traps[:1], honest)["accuracy, traps"] == 0
    assert measure_damage(replace(given, model=None), traps, honest) == {}


def test_token_that_the_model_never_repeats_is_under_trained(vocabulary: Vocabulary) -> None:
    class Repeats:
        def answer_logprobs(
            self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
        ) -> FloatArray:
            return np.array([-20.0 if answer == [280] else math.log(0.9) for answer in answers])

    rows = np.random.default_rng(0).normal(size=(vocabulary.vocab_size + 3, 8))
    unused = [
        i for i, t in enumerate(vocabulary.tokens) if t[:1] in (b"\xc0", b"\xc1") or t >= b"\xf5"
    ]
    rows[[*unused, -3, -2, -1]] = 0.01
    rows[280] = 0.01  # looks like the padding rows, and so does 281, which the model knows
    rows[281] = 0.01
    given = AuditInput(vocabulary, embeddings=Embeddings(rows), model=Repeats())
    result = METRICS.create("under_trained").measure(given)
    assert [w.token_id for w in result.witnesses] == [280]
    assert result.groups["largest p < 0.001"] == 1


def test_scores_do_not_depend_on_what_else_is_in_the_batch() -> None:
    asked = AskedModel(load_model("starter-draft", dtype="float32"))
    prompts, answers = [[5, 6, 7], [9], [1, 2, 3, 4, 5, 6]], [[8], [10, 11, 12], [3, 3]]
    together = asked.answer_logprobs(prompts, answers)
    alone = [asked.answer_logprobs([p], [a])[0] for p, a in zip(prompts, answers, strict=True)]
    assert together == pytest.approx(alone, abs=1e-4)
    assert (together < 0).all()


def test_audit_with_a_model_asks_it(vocabulary: Vocabulary) -> None:
    path = starter_path("starter-draft")
    own = Vocabulary.from_file(path)
    given = with_model(AuditInput(own), str(path))
    assert len(largest_probability(given, [300, 301])) == 2
    result = audit(own, given=replace(given, model=Knows(own, [])), metrics=ASKED)
    assert all(any("accuracy" in g for g in f.groups) for f in result.figures)
    with pytest.raises(TokenizerMismatchError, match="tiny has"):
        with_model(AuditInput(vocabulary), str(path))
