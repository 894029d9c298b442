import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from jeton.errors import ConfigError
from jeton.learn.contract import LearnedVocabulary
from jeton.learn.export import export_tokenizer
from jeton.learn.methods.bpe import Bpe

TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def learned() -> LearnedVocabulary:
    return Bpe(special_tokens="<s>,<end>,<pad>").learn(["some words, some words"], vocab_size=264)


def test_special_tokens_and_template_follow_the_base(
    learned: LearnedVocabulary, tmp_path: Path
) -> None:
    config = {
        "bos_token": {"content": "<s>", "special": True},
        "eos_token": "<end>",
        "pad_token": "<pad>",
        "mask_token": "<gone>",
        "model_max_length": 77,
        "chat_template": TEMPLATE,
        "tokenizer_class": "LlamaTokenizer",
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    first = AutoTokenizer.from_pretrained(
        export_tokenizer(learned, tmp_path / "from-folder", base=tmp_path)
    )
    second = AutoTokenizer.from_pretrained(
        export_tokenizer(learned, tmp_path / "from-live", base=first)
    )
    for loaded in (first, second):
        assert (loaded.bos_token, loaded.eos_token, loaded.pad_token) == ("<s>", "<end>", "<pad>")
        assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (0, 1, 2)
        assert loaded.mask_token is None
        assert loaded.model_max_length == 77
        assert loaded.chat_template == TEMPLATE


def test_a_damaged_base_is_named(learned: LearnedVocabulary, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        export_tokenizer(learned, tmp_path / "out", base=tmp_path)
    assert not (tmp_path / "out").exists()
