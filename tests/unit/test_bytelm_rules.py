"""The rules of tokenizers: the tokenizer's own encoding of a text is always allowed."""

import json
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from jeton.bytelm.contract import is_set
from jeton.bytelm.pattern import PatternCompiler, UnknownPattern
from jeton.bytelm.probing import ProbingRule
from jeton.bytelm.rules import canonical_rule
from jeton.core.vocabulary import StartRule, Vocabulary, load_vocabulary
from jeton.errors import EncodingError
from jeton.starter import starter_path
from jeton.testing.bytelm import toy_vocabulary
from jeton.testing.models import (
    tiny_fallback_tokenizer,
    tiny_language_model,
    tiny_unigram_tokenizer,
)

TEXTS = (
    b"it's we'LL don't I'VE \n\n\n  def f(x):\r\n\t\treturn 12345 + 123456.8\n\n\nclass A:\n  pass",
    "日本語 テキスト、한국어 שלום नमस्ते ½²３ e\u0301 Å \u00a0\u2028x 🦙👩\u200d🚀".encode(),
    b"\n\ndef  a\n\n b   \n \n  \n\nx   y\t\t z  ",
    b"x=1;y='a''b''s'\n//*//\n\n  /**\n <0x0A> CamelCaseHTTPServer",
    b"the 'Tis 'twas's",
    b"\xff\xc3 stray \xe4\xbd and \xf0\x9f\xa6",
    b"   ",
    b"plain words only",
)
SLOW = ("bert-base-uncased",)
NAMES = ("gpt2", "deepseek-coder", "kl3m-004-char-4k-cased", "mistral-v1", "rwkv-world", "phi-3")
LARGE = ("cl100k_base", "kl3m-001-32k", "o200k_base", "qwen2", "superbpe-olmo2-t180k", "t5")
OTHERS = ("gpt-neox-20b", "sentencepiece-test-en", "starcoder")


def check(vocabulary: Vocabulary, texts: tuple[bytes, ...] = TEXTS) -> int:
    """Return how many texts could be written; each encoding must be allowed, and its end."""
    rule, written = canonical_rule(vocabulary), 0
    for text in texts:
        try:
            ids = vocabulary.encode(text)
        except EncodingError:
            continue
        written += 1
        state = rule.start()
        for place, token_id in enumerate(ids):
            bits, _ = rule.mask(state)
            assert bits is not None and is_set(bits, token_id), (text, place)
            state = rule.step(state, token_id)
        assert rule.mask(state)[1], text
    return written


@pytest.mark.parametrize(
    "name", [*NAMES, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE + OTHERS)]
)
def test_published_tokenizers(shared_data: Path, name: str) -> None:
    assert check(load_vocabulary(shared_data / "tokenizers" / name)) >= 1


@pytest.mark.parametrize("source", ["starter", "tiny"])
def test_own_tokenizers(source: str) -> None:
    is_tiny = source == "tiny"
    found = (
        tiny_language_model().vocabulary if is_tiny else load_vocabulary(starter_path("starter"))
    )
    assert check(found) == len(TEXTS)


def with_steps(*steps: Any, added: Sequence[str] = (), unused: Sequence[str] = ()) -> Vocabulary:
    """A byte-level BPE behind these steps, whose merges run across all of their cuts."""
    merges = [("1", "1"), ("11", "1"), ("'", "'"), ("a", "'"), ("s", "1"), ("Ġ", "a"), ("Ġ", "Ġ")]
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, merges), *unused]
    tokenizer = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges))
    levels = [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(levels)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(list(added))
    return Vocabulary.from_tokenizer_json(tokenizer.to_str())


def longest_match(folder: Path) -> Vocabulary:
    """A vocabulary in the format of RWKV, with tokens that begin and end like others."""
    tokens = [bytes([i]) for i in range(256)] + [
        b"sa",
        b"sad",
        b"ad1",
        b"d1",
        b"  ",
        b" sa",
        b"1d1s",
    ]
    path = folder / "vocab.txt"
    path.write_text("".join(f"{i + 1} {token!r} {len(token)}\n" for i, token in enumerate(tokens)))
    return load_vocabulary(path)


def with_accent(tokenizer: Tokenizer) -> Vocabulary:
    """The same with a token of its own for a character of two bytes."""
    document = json.loads(tokenizer.to_str())
    pieces = document["model"]["vocab"]
    if isinstance(pieces, list):
        pieces.append(["é", -5.0])
    else:
        pieces["é"] = len(pieces)
    return Vocabulary.from_tokenizer_json(document)


STEPS = {
    "nothing": (),
    "digits": (pre_tokenizers.Digits(False),),
    "single digits": (pre_tokenizers.Digits(True),),
    "punctuation": (pre_tokenizers.Punctuation("isolated"),),
    "runs of punctuation": (pre_tokenizers.Punctuation("contiguous"),),
    "a string": (pre_tokenizers.Split("1", "isolated"),),
    "runs of a string": (pre_tokenizers.Split("1", "contiguous"),),
    "a pattern": (pre_tokenizers.Split(Regex("[a']"), "isolated"),),
    "runs of a pattern": (pre_tokenizers.Split(Regex("[a']"), "contiguous"),),
    "two steps": (pre_tokenizers.Digits(False), pre_tokenizers.Split(Regex(" ?a"), "isolated")),
}


STRICT: dict[str, Callable[[Path], Vocabulary]] = {
    "own pattern": lambda _: tiny_language_model().vocabulary,
    "added spaces": lambda _: with_steps(added=("  ", "  a")),
    "a raw space": lambda _: with_steps(unused=(" ",)),  # as kl3m has raw control characters
    "byte fallback": lambda _: with_accent(tiny_fallback_tokenizer()),
    "no accent": lambda _: load_vocabulary(tiny_fallback_tokenizer()),
    "metaspace": lambda _: with_accent(tiny_fallback_tokenizer(has_metaspace=True)),
    "unigram": lambda _: with_accent(tiny_unigram_tokenizer()),
    "unigram, no accent": lambda _: load_vocabulary(tiny_unigram_tokenizer()),
    "longest match": longest_match,
}


@pytest.mark.parametrize("name", [*STEPS, *STRICT])
def test_the_rule_is_strict(name: str, tmp_path: Path) -> None:
    """What is allowed token by token is what the tokenizer writes, for all short texts."""
    vocabulary = with_steps(*STEPS[name]) if name in STEPS else STRICT[name](tmp_path)
    rule = canonical_rule(vocabulary)
    assert not isinstance(rule, ProbingRule)
    kept = set(" '1asdtheé".encode())
    tokens = [i for i, t in enumerate(vocabulary.tokens) if t and set(t) <= kept]
    num_allowed = 0
    for ids in product(tokens, repeat=3):
        data = vocabulary.bytes_of(ids)
        if not is_text(data) or (
            # The tokenizer puts a space of its own before a text.
            vocabulary.start_rule != StartRule.NONE and not data.startswith(b" ")
        ):
            continue
        state, is_allowed = rule.start(), True
        for token_id in ids:
            bits, may_end = rule.mask(state)
            assert bits is not None
            assert not is_allowed or may_end or bits.any(), f"allowed, and then nothing: {data!r}"
            is_allowed = is_allowed and is_set(bits, token_id)
            state = rule.step(state, token_id)
        ends = is_allowed and rule.mask(state)[1]
        text = data if vocabulary.start_rule == StartRule.NONE else data[1:]
        assert ends == (vocabulary.encode(text) == [*ids]), data
        num_allowed += ends
    assert num_allowed > len(tokens)


def is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("pattern", ["(a)\\1", "a*?", "x{1,99}", "(?<=a)b", "[a&&b]", "a(?=bc)"])
def test_unknown_constructs_are_said_to_be(pattern: str) -> None:
    with pytest.raises(UnknownPattern):
        PatternCompiler().compile(pattern)


def test_probing_agrees_with_the_rule() -> None:
    vocabulary = toy_vocabulary(["a", "b", "ab"], [("a", "b")])
    exact, probed = canonical_rule(vocabulary), ProbingRule(vocabulary)
    for path in ((), (0,), (1,), (2,), (1, 0)):
        states = [exact.start(), probed.start()]
        for token_id in path:
            states = [r.step(s, token_id) for r, s in zip((exact, probed), states, strict=True)]
        masks = [
            np.unpackbits(r.mask(s)[0], count=4)[:3]
            for r, s in zip((exact, probed), states, strict=True)
        ]
        assert (masks[0] == masks[1]).all(), path


def test_probing_is_said(shared_data: Path) -> None:
    vocabulary = load_vocabulary(shared_data / "tokenizers" / SLOW[0])
    with pytest.warns(UserWarning, match="no exact rule"):
        rule = canonical_rule(vocabulary)
    assert isinstance(rule, ProbingRule)
