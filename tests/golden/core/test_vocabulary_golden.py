"""Worked examples of bytes and encodings, and the test vectors of llama.cpp."""

import json
from pathlib import Path
from typing import Any

import pytest

from jeton.core.vocabulary import TokenKind, Vocabulary, load_vocabulary
from jeton.errors import EncodingError

CASES = json.loads((Path(__file__).parent / "vocabulary.json").read_text(encoding="utf-8"))["cases"]
VECTORS = {
    "gpt-2": "gpt2",
    "phi-3": "phi-3",
    "deepseek-coder": "deepseek-coder",
    "starcoder": "starcoder",
    "qwen2": "qwen2",
    "bert-bge": "bert-base-uncased",
    "gpt-4o": "o200k_base",
}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_worked_example(case: dict[str, Any]) -> None:
    vocabulary = Vocabulary.from_tokenizer_json(case["document"], case["name"])
    assert [token.hex() for token in vocabulary.tokens] == case["bytes_hex"]
    assert [TokenKind(kind).name for kind in vocabulary.kinds] == case["kinds"]
    assert vocabulary.model_kind == case["model_kind"]
    assert vocabulary.start_rule == case["start_rule"]
    assert vocabulary.normalizer == case["normalizer"]
    assert vocabulary.merges.tolist() == case["merges"]
    for text, ids in case["encodings"]:
        assert vocabulary.encode(text) == ids
        assert vocabulary.decode(ids) == text.encode()
    for text, reason in case["losses"]:
        assert reason in (vocabulary.why_not_lossless(text) or "")
        with pytest.raises(EncodingError):
            vocabulary.encode(text)


@pytest.mark.parametrize("name", VECTORS)
def test_llama_cpp_vectors(shared_data: Path, name: str) -> None:
    base = shared_data / "tokenizer_vectors"
    texts = (base / f"ggml-vocab-{name}.gguf.inp").read_bytes().decode()
    lines = (base / f"ggml-vocab-{name}.gguf.out").read_text(encoding="utf-8").splitlines()
    expected = [[int(token_id) for token_id in line.split()] for line in lines]
    vocabulary = load_vocabulary(shared_data / "tokenizers" / VECTORS[name])
    found = texts.split("\n__ggml_vocab_test__\n")[: len(expected)]
    assert len(found) == len(expected) >= 46
    for text, ids in zip(found, expected, strict=True):
        assert vocabulary.encode_lossy(text) == ids
        if vocabulary.why_not_lossless(text) is None:
            assert vocabulary.encode(text) == ids
            assert vocabulary.decode(ids) == text.encode()
        else:
            assert name == "bert-bge"  # the only one of these that normalizes these texts


def test_every_shared_tokenizer_loads_and_is_exact_where_it_can(shared_data: Path) -> None:
    index = json.loads((shared_data / "tokenizers" / "index.json").read_text(encoding="utf-8"))
    text = index["test_string"]
    assert len(index["tokenizers"]) == 17
    for row in index["tokenizers"]:
        vocabulary = load_vocabulary(shared_data / row["path"])
        gap = 1 if row["name"] == "rwkv-world" else 0  # id 0, its end of text, is not in the file
        assert vocabulary.vocab_size == row["vocab_size"] + gap
        assert (vocabulary.why_not_lossless(text) is None) == row["round_trips"], row["name"]
        assert len(vocabulary.encode_lossy(text)) == row["test_string_ids"], row["name"]


def test_model_and_tokenizer_json_agree(shared_data: Path) -> None:
    pytest.importorskip("sentencepiece")
    folder = shared_data / "tokenizers" / "mistral-v1"
    from_model = load_vocabulary(folder / "tokenizer.model")
    from_json = load_vocabulary(folder)
    assert from_model.tokens == from_json.tokens
    assert from_model.kinds.tolist() == from_json.kinds.tolist()
    texts = ["Hello", " Hello", "  x\n", "▁", "<0x0A>", "</s>", "é🦙", "", b"\xff a", b"a\xe4\xbd"]
    assert [from_model.encode(t) for t in texts] == [from_json.encode(t) for t in texts]
