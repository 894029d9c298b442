"""What "auto" stands for among the initializers and the learners."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from jeton.core.vocabulary import load_vocabulary
from jeton.lm.load import load_model
from jeton.retrofit.auto_init import chosen
from jeton.retrofit.config import RetrofitConfig
from jeton.testing.models import tiny_fallback_tokenizer, tiny_language_model, tiny_tokenizer


def test_the_starter_model_has_a_hypernetwork():
    assert chosen("auto", {}, load_model("starter")) == "zett"


def test_the_draft_shares_the_vocabulary_but_not_the_network():
    assert chosen("auto", {}, load_model("starter-draft")) == "mean"


def test_a_model_without_one_starts_from_the_mean():
    lm = tiny_language_model()
    assert chosen("auto", {}, lm) == "mean"
    assert chosen("auto", {"zett.hypernetwork": "net"}, lm) == "zett"
    assert chosen("ridge", {}, lm) == "ridge"


def unigram() -> Tokenizer:
    pieces = [("<unk>", 0.0), *((f"<0x{byte:02X}>", -9.0) for byte in range(256)), ("a", -1.0)]
    return Tokenizer(models.Unigram(pieces, 0, True))


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [(tiny_tokenizer, "extend"), (tiny_fallback_tokenizer, "extend"), (unigram, "bpe")],
)
def test_auto_extends_what_can_be_extended(tokenizer, expected):
    config = RetrofitConfig(model="m", text=(Path("text"),), out=Path("out"))
    assert config.learner_for(load_vocabulary(tokenizer())) == expected
