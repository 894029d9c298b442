"""Laws of every registered learner, over tiny texts and tiny bases."""

import json
import random
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError, InputError, UnsupportedModelError
from jeton.learn.contract import LearnedVocabulary
from jeton.learn.export import export_tokenizer
from jeton.learn.pretokenize import WORD_PATTERN
from jeton.learn.registry import LEARNERS
from jeton.testing.models import tiny_fallback_tokenizer

WORDS = [
    "def",
    "return",
    "self",
    "the",
    "and",
    "ka",
    "mi",
    "to",
    "naïve",
    "語",
    "é",
    "x1",
    "42",
    "()",
]
BASE_SIZE = 330
ODD = [
    "",
    "\n\n\n  x",
    "a\r\nb",
    "e\u0301\u0301",
    "\u200d",
    "<|endoftext|>!",
    "\x00",
    "𝔘🏴‍☠️",
    " " * 40,
]


def text_of(seed: int, num_words: int) -> str:
    rng = random.Random(seed)
    words = ["".join(rng.choices(WORDS, k=rng.randint(1, 3))) for _ in range(30)]
    words += ["".join(rng.choices("aeioudfgklmnprst", k=rng.randint(2, 6))) for _ in range(15)]
    return "".join(
        rng.choice(words) + rng.choice([" ", " ", "\n", "\n    "]) for _ in range(num_words)
    )


TEXTS = [text_of(seed, 60 + seed) for seed in range(24)]


SPECIAL = ["<|endoftext|>", "<|pad|>"]


def byte_level_base(is_special_first: bool = True) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=BASE_SIZE,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=SPECIAL if is_special_first else [],
        show_progress=False,
    )
    tokenizer.train_from_iterator([text_of(99, 300)], trainer)
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def fallback_base(has_metaspace: bool) -> Tokenizer:
    tokenizer = tiny_fallback_tokenizer(has_metaspace=has_metaspace)
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


BASES = {
    "bytes": byte_level_base,
    "bytes, specials behind": partial(byte_level_base, False),
    "fallback, normalizer": partial(fallback_base, False),
    "fallback, metaspace": partial(fallback_base, True),
}
CASES = [(name, "bytes") for name in LEARNERS]
CASES += [("extend", base) for base in BASES if base != "bytes"]


@pytest.fixture
def base_json(request: pytest.FixtureRequest) -> str:
    return base_of(request.param)


@cache
def base_of(kind: str) -> str:
    text: str = BASES[kind]().to_str()
    return text


def learn(name: str, base: Any, texts: list[str] = TEXTS, size: int = 400) -> LearnedVocabulary:
    learned: LearnedVocabulary = LEARNERS.create(name).learn(texts, base=base, vocab_size=size)
    return learned


@pytest.mark.parametrize(("name", "base_json"), CASES, indirect=["base_json"])
class TestEveryLearner:
    def test_same_file_for_any_order(self, name: str, base_json: str) -> None:
        first = learn(name, base_json).tokenizer_json
        assert learn(name, base_json, TEXTS[::-1]).tokenizer_json == first
        assert learn(name, base_json, [*TEXTS]).tokenizer_json == first

    def test_round_trip(self, name: str, base_json: str) -> None:
        vocabulary = learn(name, base_json).vocabulary()
        rng = random.Random(0)
        noise = [bytes(rng.randrange(256) for _ in range(50)) for _ in range(10)]
        for data in [*(text.encode() for text in [*TEXTS, *ODD]), *noise]:
            assert vocabulary.decode(vocabulary.encode(data)) == data

    def test_size_is_exact(self, name: str, base_json: str) -> None:
        for size in (360, 401):
            learned = learn(name, base_json, size=size)
            assert learned.vocab_size == learned.vocabulary().vocab_size == size
            assert learned.num_kept + learned.num_new == size

    def test_bytes_per_token_is_what_the_encoder_gives(self, name: str, base_json: str) -> None:
        learned = learn(name, base_json)
        num_bytes = sum(len(text.encode()) for text in TEXTS)
        num_tokens = sum(map(len, learned.vocabulary().encode_batch(TEXTS)))
        assert learned.num_bytes == num_bytes
        assert learned.bytes_per_token == pytest.approx(num_bytes / num_tokens)
        assert learned.curve[-1].bytes_per_token == pytest.approx(learned.bytes_per_token)
        sizes = [point.vocab_size for point in learned.curve]
        assert sizes == sorted(set(sizes)) and sizes[-1] == learned.vocab_size

    def test_parts_precede_their_merge(self, name: str, base_json: str) -> None:
        model = json.loads(learn(name, base_json).tokenizer_json)["model"]
        if model["type"] != "BPE":
            pytest.skip("not a merge list")
        known = {token for token in model["vocab"] if len(token) == 1}
        for left, right in model["merges"]:
            assert {left, right} <= known, (left, right)
            assert left + right in model["vocab"]
            known.add(left + right)

    def test_transformers_agrees(self, name: str, base_json: str, tmp_path: Path) -> None:
        learned = learn(name, base_json)
        loaded = AutoTokenizer.from_pretrained(export_tokenizer(learned, tmp_path / "out"))
        vocabulary = learned.vocabulary()
        assert loaded.eos_token == "<|endoftext|>"
        assert len(loaded) == learned.vocab_size
        assert {t: loaded.convert_tokens_to_ids(t) for t in SPECIAL} == {
            token: vocabulary.special_tokens[token] for token in SPECIAL
        }
        for text in TEXTS:
            ids = loaded(text, add_special_tokens=False)["input_ids"]
            assert ids == vocabulary.encode(text)
            assert loaded.decode(ids) == text

    def test_special_tokens_stay(self, name: str, base_json: str) -> None:
        vocabulary = learn(name, base_json).vocabulary()
        assert set(vocabulary.special_tokens) - {"<s>"} == {"<|endoftext|>", "<|pad|>"}
        texts = ["<|endoftext|>" * 50 + text for text in TEXTS]
        special = learn(name, base_json, texts).vocabulary()
        assert b"<|endoftext|>" not in special.tokens

    def test_base_ids_stay(self, name: str, base_json: str) -> None:
        if not LEARNERS.load(name).keeps_base_ids:
            pytest.skip("numbers its tokens afresh")
        base = Vocabulary.from_tokenizer_json(base_json)
        learned = learn(name, base)
        vocabulary = learned.vocabulary()
        assert vocabulary.tokens[: base.vocab_size] == base.tokens
        assert learned.num_kept == base.vocab_size
        assert learned.source_bytes_per_token is not None
        assert learned.bytes_per_token > learned.source_bytes_per_token

    def test_bad_input_is_refused(self, name: str, base_json: str) -> None:
        with pytest.raises(InputError, match="empty"):
            learn(name, base_json, [])
        with pytest.raises(InputError, match="empty"):
            learn(name, base_json, ["", ""])
        with pytest.raises(InputError, match="too few"):
            learn(name, base_json, ["ab ab"], size=1000)
        with pytest.raises(ConfigError, match="vocab_size"):
            learn(name, base_json, size=100)
        with pytest.raises(InputError, match="only once"):
            LEARNERS.create(name).learn(iter(TEXTS), base=base_json, vocab_size=400)


def test_extend_refuses_other_kinds() -> None:
    base = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]")).to_str()
    with pytest.raises(UnsupportedModelError, match="byte-level"):
        learn("extend", base)
    with pytest.raises(ConfigError, match="start from"):
        learn("extend", None)


def test_bpe_equals_the_tokenizers_library() -> None:
    for seed in range(12):
        rng = random.Random(seed)
        letters = rng.choice(["ab", "abcé", "xyz語 "])
        lines = ["".join(rng.choice(letters) for _ in range(rng.randint(1, 30))) for _ in range(60)]
        size = 256 + rng.randint(1, 60)
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(WORD_PATTERN), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(lines, trainer)
        theirs = json.loads(tokenizer.to_str())["model"]
        ours = json.loads(learn("bpe", None, lines, len(theirs["vocab"])).tokenizer_json)["model"]
        assert ours["merges"] == theirs["merges"]
        assert ours["vocab"] == theirs["vocab"]
