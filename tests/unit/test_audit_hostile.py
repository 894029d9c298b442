"""A hostile tokenizer.json ends in a clear error, soon."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from jeton.core.formats.patterns import check_pattern
from jeton.core.vocabulary import Vocabulary, load_vocabulary
from jeton.errors import TokenizerError


def document(**changes: Any) -> dict[str, Any]:
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}
    return {"version": "1.0", "added_tokens": [], "model": model} | changes


def split(pattern: str) -> dict[str, Any]:
    step = {"type": "Split", "behavior": "Isolated", "invert": False}
    return step | {"pattern": {"Regex": pattern}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pre_tokenizer": split("(a+)+$")}, "repeats a repetition"),
        ({"normalizer": {"type": "Replace", "pattern": {"Regex": "(?:b|a*)*c"}}}, "repeats"),
        ({"pre_tokenizer": split("a" * 30_000)}, "30,000 characters"),
        ({"added_tokens": [{"id": 10**9, "content": "x"}]}, "ids are whole numbers"),
        ({"added_tokens": [{"id": 15_000_000, "content": "x"}]}, "largest id is 15,000,000"),
        ({"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}, "id -1"),
    ],
)
def test_limits(changes: dict[str, Any], message: str) -> None:
    content = document(**changes)
    if "normalizer" in changes:
        content["normalizer"]["content"] = ""
    with pytest.raises(TokenizerError, match=message):
        Vocabulary.from_tokenizer_json(content, name="hostile")


@pytest.mark.parametrize("bracket", ["[]", '{"a":}'])
def test_deep_nesting(tmp_path: Path, bracket: str) -> None:
    depth = 200_000
    opening, closing = bracket[:-1], bracket[-1]
    path = tmp_path / "tokenizer.json"
    path.write_text('{"model": ' + opening * depth + "1" + closing * depth + "}", "utf-8")
    with pytest.raises(TokenizerError, match="nests too deep"):
        load_vocabulary(path)


def test_deep_sequences_of_steps(tmp_path: Path) -> None:
    inner: dict[str, Any] = {"type": "Lowercase"}
    for _ in range(300):
        inner = {"type": "Sequence", "normalizers": [inner]}
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document(normalizer=inner)), "utf-8")
    with contextlib.suppress(TokenizerError):  # it may be refused, but not crash
        assert load_vocabulary(path).encode_lossy("A") == [0]


@pytest.mark.parametrize(
    "pattern",
    [
        r"'s|'t| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$",
        r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))|(?=(\d{3})+(?!\d))",
        r"(?i:[sdmt]|ll|ve|re)|(?:[a-z]+ )*",
    ],
)
def test_patterns_in_use_are_not_refused(pattern: str) -> None:
    check_pattern(pattern, "fine")
