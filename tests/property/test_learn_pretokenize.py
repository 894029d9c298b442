"""Our pretokens equal those of the tokenizers library."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from jeton.core.encode import byte_level_to_bytes
from jeton.learn.byte_level import line_pattern, pre_tokenizer_for
from jeton.learn.counts import count_pretokens
from jeton.learn.pretokenize import (
    ACROSS_PATTERN,
    CODE_PATTERN,
    GPT2_PATTERN,
    RIGHT_DIGITS,
    WORD_PATTERN,
    Pretokenizer,
    split_spec,
)
from jeton.learn.scanners import scan

# Letters newer than one library's Unicode tables are told apart by the other's.
TEXT = st.text(
    st.one_of(
        st.sampled_from(" \t\r\n\x0b\x1c\x85\xa0\u2028'sSdſ019.,()_=éß語\u0301😀"),
        st.characters(max_codepoint=0x2FFF, exclude_categories=["Cn", "Cs", "Co"]),
    ),
    max_size=40,
)
BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": False,
}
SPECS = {
    "word": [split_spec(WORD_PATTERN), BYTE_LEVEL],
    "code": [split_spec(CODE_PATTERN), BYTE_LEVEL],
    "line": [split_spec(line_pattern(3)), BYTE_LEVEL],
    "line-1": [split_spec(line_pattern(1)), BYTE_LEVEL],
    "right": pre_tokenizer_for("line", None, "right")["pretokenizers"],  # type: ignore[index]
    "gpt2-right": pre_tokenizer_for("gpt2", None, "right")["pretokenizers"],  # type: ignore[index]
    "line-any": [split_spec(line_pattern(None)), BYTE_LEVEL],
    "gpt2": [{**BYTE_LEVEL, "use_regex": True}],
    "gpt2-prefix": [{**BYTE_LEVEL, "use_regex": True, "add_prefix_space": True}],
    "starcoder": [
        {"type": "Digits", "individual_digits": True},
        {**BYTE_LEVEL, "use_regex": True},
    ],
    "gaps": [split_spec(r"\p{N}+"), split_spec(r"(a|é)b?"), BYTE_LEVEL],
    "removed": [
        {**split_spec(r"\p{L}+"), "behavior": "Removed", "invert": True},
        BYTE_LEVEL,
    ],
    "foreign": [
        {**split_spec(r"\s+"), "behavior": "MergedWithNext"},
        {"type": "Punctuation", "behavior": "Isolated"},
        BYTE_LEVEL,
    ],
}


def theirs(document: dict[str, object], text: str) -> Counter[bytes]:
    model = {"type": "BPE", "vocab": {}, "merges": []}
    tokenizer = Tokenizer.from_str(json.dumps({"version": "1.0", **document, "model": model}))
    if tokenizer.normalizer is not None:
        text = tokenizer.normalizer.normalize_str(text)
    assert tokenizer.pre_tokenizer is not None
    pieces = tokenizer.pre_tokenizer.pre_tokenize_str(text)
    return Counter(byte_level_to_bytes(piece) for piece, _ in pieces if piece)


@pytest.mark.parametrize("name", list(SPECS))
@settings(max_examples=60, deadline=None, derandomize=True)
@given(text=TEXT)
@example(text="I'M we'ſ 1234567 a\n\n   b\t \r\n")
@example(text="if x:\n        y = 12\n\n    z()   \n")
def test_pretokens_equal(name: str, text: str) -> None:
    document = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": SPECS[name]}}
    ours = Pretokenizer.from_tokenizer_json(document).count(text)
    assert Counter({k.encode(): n for k, n in ours.items() if k}) == theirs(document, text)


FOLDERS = ["qwen2", "deepseek-coder", "starcoder", "gpt-neox-20b", "superbpe-olmo2-t180k", "gpt2"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_pretokens_of_real_tokenizers(shared_data: Path, folder: str) -> None:
    path = shared_data / "tokenizers" / folder / "tokenizer.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    document = {key: stored[key] for key in ("normalizer", "pre_tokenizer")}
    pretokenizer = Pretokenizer.from_tokenizer_json(document)
    for article in sorted((shared_data / "udhr" / "articles").glob("*.txt"))[::6]:
        text = article.read_text(encoding="utf-8")[:3000] + " 1234567 été\n\n\tx"
        ours = pretokenizer.count(text)
        assert Counter({k.encode(): n for k, n in ours.items()}) == theirs(document, text)


SCANNED = {
    "word": WORD_PATTERN,
    "word-1": WORD_PATTERN.replace(r"\p{N}{1,3}", r"\p{N}"),
    "word-right": WORD_PATTERN.replace(r"\p{N}{1,3}", RIGHT_DIGITS),
    "gpt2": GPT2_PATTERN,
    "across": ACROSS_PATTERN,
}


@pytest.mark.parametrize("name", list(SCANNED))
@settings(max_examples=300, deadline=None, derandomize=True)
@given(texts=st.lists(st.one_of(TEXT, st.text(max_size=20)), max_size=4))
@example(texts=["a  b   !!\n//x --\n  \n 12345 '' -", "  ", " !", "a ..", "x\u00a0!? \u00a0"])
@example(texts=["7" * n for n in (1, 2, 3, 4, 512, 513, 514, 515, 1030)])
@example(texts=["I'M we'\u017f 'RE'l 1234567 a\n\n   b\t \r\n", "'", "x '", "   ", "\n "])
def test_scanners_equal_the_tokenizers_library(name: str, texts: list[str]) -> None:
    pretokenizer = Pretokenizer.from_pattern(SCANNED[name])
    assert pretokenizer.scanner_style is not None
    # Any letter, also those that the tables of `regex` have and the encoder's do not.
    stages = [split_spec(SCANNED[name]), BYTE_LEVEL]
    document = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": stages}}
    expected: Counter[bytes] = Counter()
    for text in texts:
        expected.update(theirs(document, text))
    assert scan(texts, pretokenizer.scanner_style) == expected


def test_scanners_grow_their_tables() -> None:
    text = " ".join(f"w{i:x}q" for i in range(60_000))
    pretokenizer = Pretokenizer.from_pattern(WORD_PATTERN)
    counted = count_pretokens([text] * 3, pretokenizer)  # enough text for the scanner
    expected = pretokenizer.count(text)
    assert dict(counted.counts) == {key.encode(): 3 * n for key, n in expected.items()}
    assert len(text) * 3 > 1 << 20


def test_the_scanner_is_taken_only_for_the_same_rule() -> None:
    styles = {}
    for name, spec in SPECS.items():
        document = {"pre_tokenizer": {"type": "Sequence", "pretokenizers": spec}}
        styles[name] = Pretokenizer.from_tokenizer_json(document).scanner_style
    assert {name for name, style in styles.items() if style is not None} == {"word", "gpt2"}
    document = {"pre_tokenizer": SPECS["gpt2"][0], "normalizer": {"type": "NFC"}}
    assert Pretokenizer.from_tokenizer_json(document).scanner_style is None
