"""Laws that every metric of the registry obeys, on tokenizers of every kind."""

import dataclasses
import json
import math

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from jeton.audit.contract import MAX_WITNESSES, MetricResult
from jeton.audit.evidence import AuditInput, Embeddings, Lexicon
from jeton.audit.registry import METRICS
from jeton.audit.run import NEEDS, audit
from jeton.core.run import to_json
from jeton.core.vocabulary import Vocabulary

TEXTS = {
    "eng": [
        "The licence of the library says what it is.",
        "def f(x):\n        return x ** 2 + 1234567\n",
        "Nobody shall be held in slavery.",
        "Nobody shall be held in slavery.",
    ],
    "deu": [
        "Die Lizenz der Bücherei sagt, was größer ist.",
        "Niemand darf gehalten werden.",
        "„Käse“ kostet 12 €.",
        "Ein Kind lacht, ein anderes weint.",
    ],
    "jpn": ["図書館の許可証。", "何人も奴隷にされない。", "価格は千円。", "空は青い。"],
}


class Ticks:
    """A clock that advances by one second at every look, so that a metric of time is repeatable."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def options(name: str) -> dict[str, object]:
    """Return options that make a metric small, or repeatable."""
    if name == "data_mixture":
        pytest.importorskip("scipy", reason="data_mixture needs scipy")
    cases: dict[str, dict[str, object]] = {
        "worst_case_latency": {"clock": Ticks(), "size_bytes": 200, "repeats": 1},
        "adt": {"num_candidates": 200, "min_letters": 2},
        "character_tasks": {"num_tasks": 20},
        "digit_arithmetic": {"num_items": 20},
        "data_mixture": {"num_merges": 20},
        "premium": {"num_resamples": 50},
        "markov_theory": {"num_characters": 2000, "vocab_size": 8},
    }
    return cases.get(name, {})


KINDS = ("byte-level", "sentencepiece", "unigram", "wordpiece")


def train(kind: str) -> str:
    """Return the tokenizer.json of a tiny tokenizer."""
    corpus = [text for texts in TEXTS.values() for text in texts] * 3
    special = ["<unk>", "<s>", "</s>"]
    if kind == "byte-level":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=340,
            special_tokens=["<s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    elif kind == "sentencepiece":
        fallback = [f"<0x{byte:02X}>" for byte in range(256)]
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        tokenizer.decoder = decoders.Sequence(
            [
                decoders.Replace("▁", " "),
                decoders.ByteFallback(),
                decoders.Fuse(),
                decoders.Strip(" ", 1, 0),
            ]
        )
        trainer = trainers.BpeTrainer(
            vocab_size=400, special_tokens=special + fallback, show_progress=False
        )
    elif kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=150, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(
            vocab_size=200, special_tokens=special, show_progress=False
        )
    tokenizer.train_from_iterator(corpus, trainer)
    text: str = tokenizer.to_str()
    if kind == "sentencepiece":
        # the library's trainer marks byte tokens special; real files do not
        document = json.loads(text)
        document["added_tokens"] = [
            row for row in document["added_tokens"] if not row["content"].startswith("<0x")
        ]
        text = json.dumps(document)
    return text


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return {kind: train(kind) for kind in KINDS}


def evidence(vocabulary: Vocabulary, texts: dict[str, list[str]] = TEXTS) -> AuditInput:
    generator = np.random.default_rng(0)
    return AuditInput(
        vocabulary,
        texts,
        is_parallel=True,
        embeddings=Embeddings(generator.normal(size=(vocabulary.vocab_size, 8))),
        lexicon=Lexicon(frozenset({"the", "library", "is", "kind"}), frozenset({"licen", "s"})),
        segmentation={"library": ("librar", "y"), "says": ("say", "s"), "größer": ("größ", "er")},
    )


def measure(name: str, content: str, texts: dict[str, list[str]] = TEXTS) -> MetricResult:
    vocabulary = Vocabulary.from_tokenizer_json(content, name="tiny")
    result: MetricResult = METRICS.create(name, options(name)).measure(evidence(vocabulary, texts))
    return result


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(METRICS.rows))
def test_result_is_well_formed(files: dict[str, str], name: str, kind: str) -> None:
    result = measure(name, files[kind])
    assert result.name == name
    assert result.title
    assert result.value is None or math.isfinite(result.value)
    assert result.value is not None or result.detail
    assert all(math.isfinite(value) for value in result.groups.values())
    assert len(result.witnesses) <= MAX_WITNESSES
    if result.interval is not None and result.value is not None:
        low, high = result.interval
        assert low <= result.value <= high
    for series in result.series.values():
        assert len(series.x) == len(series.y)
        assert all(math.isfinite(y) for y in series.y)
    json.dumps(to_json(result), allow_nan=False)


@pytest.mark.parametrize("name", list(METRICS.rows))
def test_same_input_same_result_in_any_order_of_groups(files: dict[str, str], name: str) -> None:
    turned = dict(reversed(TEXTS.items()))
    assert measure(name, files["byte-level"]) == measure(name, files["byte-level"], turned)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(METRICS.rows))
def test_neutral_to_truncation_and_padding(files: dict[str, str], name: str, kind: str) -> None:
    tokenizer = Tokenizer.from_str(files[kind])
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50, pad_id=0, pad_token="<s>")
    assert measure(name, files[kind]) == measure(name, tokenizer.to_str())


@pytest.mark.parametrize("name", list(METRICS.rows))
def test_figures_of_counts_do_not_change_when_all_text_is_doubled(
    files: dict[str, str], name: str
) -> None:
    if not METRICS.load(name).is_per_token:
        pytest.skip("looks at more than counts")
    doubled = {group: texts + texts for group, texts in TEXTS.items()}
    once = measure(name, files["byte-level"])
    twice = measure(name, files["byte-level"], doubled)
    assert twice.value == pytest.approx(once.value)
    assert twice.groups == pytest.approx(once.groups)


def test_counts_are_additive_over_documents(files: dict[str, str]) -> None:
    vocabulary = Vocabulary.from_tokenizer_json(files["byte-level"])
    whole = AuditInput(vocabulary, {"eng": TEXTS["eng"]})
    parts = [AuditInput(vocabulary, {"eng": [text]}) for text in TEXTS["eng"]]
    assert np.array_equal(whole.token_counts, sum(part.token_counts for part in parts))
    assert whole.num_bytes == sum(part.num_bytes for part in parts)
    assert whole.num_tokens == sum(part.num_tokens for part in parts)
    assert whole.num_tokens == sum(len(vocabulary.encode_lossy(text)) for text in TEXTS["eng"])


@pytest.mark.parametrize("name", list(METRICS.rows))
def test_needs_are_known_and_enough(files: dict[str, str], name: str) -> None:
    metric = METRICS.create(name, options(name))
    assert metric.name == name
    assert set(metric.needs) <= set(NEEDS)
    vocabulary = Vocabulary.from_tokenizer_json(files["byte-level"])
    full = evidence(vocabulary)
    surplus = {
        "texts": {"texts": {}, "is_parallel": False},
        "parallel": {"is_parallel": False},
        "embeddings": {"embeddings": None},
        "lexicon": {"lexicon": None},
        "segmentation": {"segmentation": None},
    }
    for need, without in surplus.items():
        if need not in metric.needs and not (need == "texts" and "parallel" in metric.needs):
            metric.measure(dataclasses.replace(full, **without))


@pytest.mark.parametrize("kind", KINDS)
def test_audit_runs_every_metric_whose_needs_are_met(files: dict[str, str], kind: str) -> None:
    vocabulary = Vocabulary.from_tokenizer_json(files[kind], name="tiny")
    result = audit(vocabulary, given=evidence(vocabulary), against=vocabulary)
    default = [name for name in METRICS.rows if METRICS.load(name).is_default]
    assert [figure.name for figure in result.figures] == default
    assert not result.skipped
    assert result.against is not None
    assert set(result.against.skipped) == {"under_trained"}  # the embeddings are the first one's
    shared = [figure for figure in result.figures if figure.name != "under_trained"]
    assert shared == result.against.figures
    json.dumps(to_json(result), allow_nan=False)
