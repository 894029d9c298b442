"""The atlas of tokenizers and languages."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from jeton.audit.atlas import atlas
from jeton.core.run import to_json
from jeton.core.vocabulary import Vocabulary
from jeton.errors import InputError

TEXTS = {"eng": ["the cat sat", "on the mat"], "rus": ["кот сидел", "на ковре"]}


def train(name: str, texts: list[str]) -> Vocabulary:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=275, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return Vocabulary.from_tokenizer_json(tokenizer.to_str(), name=name)


def test_fairest_tokenizer_comes_first() -> None:
    english = train("english", TEXTS["eng"])
    both = train("both", TEXTS["eng"] + TEXTS["rus"] * 2)
    result = atlas([english, both], TEXTS)
    assert [row.tokenizer for row in result.rows] == ["both", "english"]
    assert result.reference == "eng"
    assert result.languages == ["eng", "rus"]
    for row in result.rows:
        assert row.worst_language == "rus"
        assert row.median_premium == row.premiums["rus"]
    json.dumps(to_json(result), allow_nan=False)


def test_atlas_needs_tokenizers_and_languages() -> None:
    with pytest.raises(InputError, match="at least two languages"):
        atlas([], TEXTS)
    with pytest.raises(InputError, match="at least two languages"):
        atlas([train("one", TEXTS["eng"])], {"eng": ["a"], "rus": [""]})
