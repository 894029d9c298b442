"""The rules of tokenizers: the tokenizer's own encoding of a text is always allowed."""

from pathlib import Path

import numpy as np
import pytest

from jeton.bytelm.contract import is_set
from jeton.bytelm.pattern import PatternCompiler, UnknownPattern
from jeton.bytelm.probing import ProbingRule
from jeton.bytelm.rules import canonical_rule
from jeton.core.vocabulary import Vocabulary, load_vocabulary
from jeton.errors import EncodingError
from jeton.starter import starter_path
from jeton.testing.bytelm import toy_vocabulary
from jeton.testing.models import tiny_language_model

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


def test_the_rule_is_strict() -> None:
    """What is allowed token by token is what the tokenizer writes, for all short texts."""
    vocabulary = tiny_language_model().vocabulary
    rule = canonical_rule(vocabulary)
    tokens = [i for i, t in enumerate(vocabulary.tokens) if t and set(t) <= set(b" \n'sad1")]
    for first in tokens:
        for second in tokens:
            state, is_allowed = rule.start(), True
            for token_id in (first, second):
                bits, _ = rule.mask(state)
                is_allowed = is_allowed and is_set(bits, token_id)
                state = rule.step(state, token_id)
            ends = is_allowed and rule.mask(state)[1]
            data = vocabulary.tokens[first] + vocabulary.tokens[second]
            assert ends == (vocabulary.encode(data) == [first, second]), data


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
