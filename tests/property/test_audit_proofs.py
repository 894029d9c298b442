"""Proofs of death, checked by trying every short text."""

from itertools import product

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from jeton.audit.patterns import build_automaton
from jeton.audit.reachability import Reach, find_reachability
from jeton.core.encode import bytes_to_byte_level
from jeton.core.vocabulary import Vocabulary
from jeton.errors import UnsupportedModelError

CHARACTERS = ("a", "'", "s", "\u0301", " ", "1")
TEXTS = ["".join(t) for n in range(1, 5) for t in product(CHARACTERS, repeat=n)]
PATTERNS = (
    r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+",
    r"'s| ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"\p{N}{1,3}",
    r"[^\r\n\p{L}\p{N}]?+\p{L}++|\s++$|.",
)


@st.composite
def merge_lists(draw: st.DrawFn) -> list[tuple[str, str]]:
    tokens = sorted(bytes_to_byte_level("".join(CHARACTERS).encode()))
    merges: list[tuple[str, str]] = []
    for _ in range(draw(st.integers(1, 14))):
        pair = (draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens)))
        if pair not in merges and len(pair[0] + pair[1]) <= 6:
            merges.append(pair)
            tokens.append(pair[0] + pair[1])
    return merges


@settings(derandomize=True, max_examples=15, deadline=None)
@given(
    merge_lists(),
    st.sampled_from(PATTERNS),
    st.sampled_from([None, {"type": "NFC"}]),
    st.booleans(),
)
def test_no_token_proven_dead_comes_out_of_a_short_text(
    merges: list[tuple[str, str]],
    pattern: str,
    normalizer: dict[str, str] | None,
    ignore_merges: bool,
) -> None:
    vocab = {char: i for i, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    for left, right in merges:
        vocab.setdefault(left + right, len(vocab))
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    document = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": normalizer,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [split | {"invert": False}, step | {"use_regex": False}],
        },
        "decoder": step,
        "model": {
            "type": "BPE",
            "vocab": vocab,
            "merges": [list(merge) for merge in merges],
            "ignore_merges": ignore_merges,
        },
    }
    vocabulary = Vocabulary.from_tokenizer_json(document, name="drawn")
    found = find_reachability(vocabulary)
    seen = set().union(*vocabulary.source.encode_batch(TEXTS))
    for state in (Reach.DEAD, Reach.BYTES_ONLY):
        assert not seen & set(found.ids(state)), state
    for token_id in [vocab[left + right] for left, right in merges]:
        if found.states[token_id] == Reach.REACHABLE:
            witness = found.witness_of(token_id)
            assert witness is not None
            assert token_id in vocabulary.encode_lossy(witness)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_automaton_accepts_every_part_of_every_match(pattern: str) -> None:
    automaton = build_automaton(pattern)
    for text in TEXTS[::3]:
        for match in regex.finditer(pattern, text):
            piece = match.group()
            for start, end in ((0, len(piece)), (1, len(piece)), (0, len(piece) - 1)):
                part = piece[start:end]
                assert not part or automaton.can_contain(part), (text, piece, part)


def test_a_token_that_only_one_pretoken_holds_lists_it() -> None:
    automaton = build_automaton(PATTERNS[1])
    assert automaton.matches_with("'s", 20) == ["'s"]
    assert automaton.matches_with("a", 20) is None  # any word
    assert not automaton.can_contain("a1")
    assert not automaton.can_contain("a\u0301")
    assert automaton.covers("\u0301")
    assert not build_automaton(PATTERNS[2]).covers("a")


@pytest.mark.parametrize("pattern", ["(a", "a)", "[[:bad", "(?<name>a)", "a**b(", r"\Qa"])
def test_strange_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(UnsupportedModelError):
        build_automaton(pattern).can_contain("a")
