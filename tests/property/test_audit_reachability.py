"""Claims about reachability, checked by trying every short text."""

import json
from itertools import product
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

from jeton.audit.contexts import can_occur_in_text, completions
from jeton.audit.merges import UNBUILT, find_rules
from jeton.audit.reachability import Reach, find_reachability
from jeton.core.vocabulary import Vocabulary

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
LETTERS = "ab "
ALL_TEXTS = ["".join(t) for n in range(1, 8) for t in product(LETTERS, repeat=n)]


@st.composite
def merge_lists(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Draw merges in any order: parts may come after their product, and twice."""
    tokens = ["a", "b", "Ġ"]
    merges: list[tuple[str, str]] = []
    for _ in range(draw(st.integers(0, 12))):
        pair = (draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens)))
        if pair not in merges and len(pair[0] + pair[1]) <= 7:
            merges.append(pair)
            tokens.append(pair[0] + pair[1])
    return draw(st.permutations(merges)) if draw(st.booleans()) else merges


def tokenizer_json(
    merges: list[tuple[str, str]],
    *,
    added: list[str] | None = None,
    use_regex: bool = False,
    ignore_merges: bool = False,
) -> dict[str, Any]:
    vocab = {char: i for i, char in enumerate(ALPHABET)}
    for left, right in merges:
        vocab.setdefault(left + right, len(vocab))
    rows = [
        {"content": content, "special": False, "single_word": False, "lstrip": False}
        | {"rstrip": False, "normalized": False, "id": len(vocab) + i}
        for i, content in enumerate(added or [])
    ]
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    step["use_regex"] = use_regex
    return {
        "version": "1.0",
        "added_tokens": rows,
        "normalizer": None,
        "pre_tokenizer": step,
        "post_processor": None,
        "decoder": step,
        "model": {
            "type": "BPE",
            "vocab": vocab,
            "merges": [list(merge) for merge in merges],
            "ignore_merges": ignore_merges,
        },
    }


@settings(derandomize=True, max_examples=150, deadline=None)
@given(merge_lists())
def test_rule_of_a_token_is_what_bpe_does(merges: list[tuple[str, str]]) -> None:
    document = tokenizer_json(merges)
    vocab = document["model"]["vocab"]
    rows = np.array(
        [(vocab[a], vocab[b], vocab[a + b]) for a, b in merges], dtype=np.int64
    ).reshape(-1, 3)
    is_symbol = np.array([len(token) == 1 for token in vocab])
    lengths = np.array([len(token) for token in vocab], dtype=np.int64)
    rules = find_rules(rows, is_symbol, lengths)
    engine = Tokenizer.from_str(json.dumps(document | {"pre_tokenizer": None}))
    for token, token_id in vocab.items():
        comes_out = engine.encode(token).ids == [token_id]
        assert comes_out == (rules.rule[token_id] != UNBUILT), token
    # a merge that never fires can go: no text is encoded differently
    kept = [merge for merge, fires in zip(merges, rules.fires, strict=True) if fires]
    document["model"]["merges"] = [list(merge) for merge in kept]
    smaller = Tokenizer.from_str(json.dumps(document | {"pre_tokenizer": None}))
    for text in ALL_TEXTS[::7]:
        mapped = text.replace(" ", "Ġ")
        assert engine.encode(mapped).tokens == smaller.encode(mapped).tokens


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    merge_lists(),
    st.lists(st.sampled_from([" ", "ab", "a b", "bb"]), max_size=2, unique=True),
    st.booleans(),
    st.booleans(),
)
def test_dead_tokens_occur_in_no_text_and_reached_ones_in_their_witness(
    merges: list[tuple[str, str]], added: list[str], use_regex: bool, ignore_merges: bool
) -> None:
    names = {left + right for left, right in merges}
    added = [content for content in added if content.replace(" ", "Ġ") not in names]
    document = tokenizer_json(merges, added=added, use_regex=use_regex, ignore_merges=ignore_merges)
    vocabulary = Vocabulary.from_tokenizer_json(document, name="drawn")
    found = find_reachability(vocabulary)
    seen = set().union(*vocabulary.source.encode_batch(ALL_TEXTS))
    for state in (Reach.DEAD, Reach.SHADOWED, Reach.BYTES_ONLY):
        assert not seen & set(found.ids(state)), state
    for token_id in found.ids(Reach.REACHABLE):
        witness = found.witness_of(token_id)
        assert witness is not None
        assert token_id in vocabulary.encode_lossy(witness)
    if not added and not use_regex:  # nothing but BPE at work: every token is decided
        assert found.count(Reach.UNKNOWN) == 0


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.text(min_size=1, max_size=4), st.data())
def test_every_piece_of_text_can_occur_and_is_completed(text: str, data: st.DataObject) -> None:
    encoded = text.encode("utf-8", "ignore")
    start = data.draw(st.integers(0, len(encoded)))
    piece = encoded[start : data.draw(st.integers(start, len(encoded)))]
    assert can_occur_in_text(piece)
    for completed in completions(piece, 0, 20):
        assert piece in completed.encode()


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.binary(max_size=6))
def test_completions_contain_the_bytes(data: bytes) -> None:
    for completed in completions(data, 0, 5):
        assert data in completed.encode()
    if any(byte in (0xC0, 0xC1, *range(0xF5, 0x100)) for byte in data):
        assert not can_occur_in_text(data)
