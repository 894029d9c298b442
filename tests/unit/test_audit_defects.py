"""Each metric finds a defect planted in a tiny tokenizer."""

import json
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from jeton.audit.contract import MetricResult
from jeton.audit.evidence import AuditInput
from jeton.audit.registry import METRICS
from jeton.core.vocabulary import Vocabulary

TEXT = [
    "the cat sat on the mat and the cat ate the rat",
    "the banana band at the bank sang the anthem",
    "        indented text with 12345 and 1234567 in it",
]


def trained(size: int = 300) -> dict[str, Any]:
    """Return a healthy byte-level BPE."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    return document


def measure(name: str, document: dict[str, Any], texts: list[str] | None = None) -> MetricResult:
    vocabulary = Vocabulary.from_tokenizer_json(document, name="planted")
    return METRICS.create(name).measure(AuditInput(vocabulary, {"text": texts or TEXT}))


def add_token(document: dict[str, Any], content: str, *, special: bool = False) -> int:
    ids = [*document["model"]["vocab"].values(), *(t["id"] for t in document["added_tokens"])]
    row = {"id": max(ids) + 1, "content": content, "special": special, "single_word": False}
    document["added_tokens"].append(row | {"lstrip": False, "rstrip": False, "normalized": False})
    return max(ids) + 1


def add_entry(document: dict[str, Any], token: str) -> int:
    vocab = document["model"]["vocab"]
    vocab[token] = max(vocab.values()) + 1
    return int(vocab[token])


@pytest.mark.parametrize("name", ["dead", "shadowed", "duplicates", "token_kinds", "round_trip"])
def test_healthy_tokenizer_has_none_of_the_defects(name: str) -> None:
    assert measure(name, trained()).value == 0


def test_dead_finds_a_token_without_a_merge() -> None:
    document = trained()
    token_id = add_entry(document, "qqq")
    result = measure("dead", document)
    assert result.value == 1
    assert [(w.token_id, w.detail) for w in result.witnesses] == [(token_id, "no merge builds it")]


def test_dead_finds_a_token_whose_merge_comes_too_late() -> None:
    document = trained()
    vocab, merges = document["model"]["vocab"], document["model"]["merges"]
    token_id = add_entry(document, "hhe")
    add_entry(document, "hh")
    if "he" not in vocab:
        add_entry(document, "he")
    merges.insert(0, ["h", "e"])
    merges += [["h", "h"], ["hh", "e"]]  # but "h e" has merged long before
    result = measure("dead", document)
    assert token_id in [w.token_id for w in result.witnesses]
    assert result.witnesses[0].detail == "its own text merges in other ways first"


def test_dead_does_not_blame_a_token_that_is_only_cut_when_alone() -> None:
    # with a dummy space the text "at" never gives the token "at"; "xat" does
    document = trained()
    document["pre_tokenizer"]["add_prefix_space"] = True
    result = measure("dead", document)
    assert result.value == 0
    assert result.groups["unknown"] == 0


def test_shadowed_finds_what_an_added_space_takes_away() -> None:
    document = trained()
    spaced = [t for t in document["model"]["vocab"] if "Ġ" in t]
    add_token(document, " ")
    result = measure("shadowed", document)
    assert result.value == len(spaced)
    assert result.witnesses[0].detail == "the added token ' ' matches first"


def test_special_tokens_shadow_nothing() -> None:
    document = trained()
    add_token(document, "the", special=True)
    assert measure("shadowed", document).value == 0


def test_duplicates_finds_two_spellings_of_the_same_bytes() -> None:
    document = trained()
    add_entry(document, " x")
    vocab = document["model"]["vocab"]
    vocab["Ġx"] = max(vocab.values()) + 1
    result = measure("duplicates", document)
    assert result.value == 1
    assert result.witnesses[0].token == " x"


def test_token_kinds_finds_holes() -> None:
    document = trained()
    document["model"]["vocab"]["zz"] = max(document["model"]["vocab"].values()) + 4
    assert measure("token_kinds", document).value == 3


def test_round_trip_names_the_normalizer() -> None:
    document = trained()
    document["normalizer"] = {"type": "Lowercase"}
    result = measure("round_trip", document, ["Abc\n", "abc\n"])
    assert result.value is not None
    assert result.value > 0
    assert set(result.groups) == {"normalizer"}
    assert "1 of 2 lines" in result.detail


def test_partial_utf8_finds_a_piece_of_a_character() -> None:
    document = trained()
    add_entry(document, "ðŁ")
    assert measure("partial_utf8", document).value == 129


def test_bytes_per_token_falls_when_a_word_is_lost() -> None:
    document = trained()
    before = measure("bytes_per_token", document).value
    document["model"]["merges"] = [m for m in document["model"]["merges"] if m != ["t", "h"]]
    document["model"]["merges"] = [m for m in document["model"]["merges"] if "th" not in m[0]]
    after = measure("bytes_per_token", document).value
    assert before is not None
    assert after is not None
    assert after < before


def test_fertility_and_utilisation_see_unused_entries() -> None:
    document = trained()
    before = measure("utilisation", document).value
    for i in range(50):
        add_entry(document, "q" * (i + 2))
    after = measure("utilisation", document).value
    assert before is not None
    assert after is not None
    assert after < before


def split_digits(document: dict[str, Any], pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    inner = [split | {"invert": False}, document["pre_tokenizer"] | {"use_regex": False}]
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": inner}
    vocab = document["model"]["vocab"]
    document["model"]["ignore_merges"] = True  # whole pretokens need no merges
    for number in [f"{n:02}" for n in range(100)] + [f"{n:03}" for n in range(1000)]:
        vocab.setdefault(number, max(vocab.values()) + 1)
    return document


@pytest.mark.parametrize(
    ("pattern", "rule", "example"),
    [
        (r"\p{N}", "single digits", "1|2|3|4"),
        (r"\p{N}{1,3}", "groups of 3 from the left", "123|4"),
        (r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))", "groups of 3 from the right", "1|234"),
        (r"\p{N}{1,2}", "groups of 2 from the left", "12|34"),
    ],
)
def test_digits_names_the_rule(pattern: str, rule: str, example: str) -> None:
    result = measure("digits", split_digits(trained(258), pattern))
    assert result.detail.startswith(rule)
    assert result.value == 1
    assert result.witnesses[3].detail == example


def test_whitespace_sees_that_runs_have_no_tokens() -> None:
    document = trained()
    document["pre_tokenizer"]["use_regex"] = True
    document["model"]["merges"] = [m for m in document["model"]["merges"] if m[0] != "Ġ"]
    result = measure("whitespace", document)
    assert result.groups["8 spaces"] >= 7


def test_token_length_shows_a_monster() -> None:
    document = trained()
    add_entry(document, "-" * 99)
    assert measure("token_length", document).witnesses[0].detail == "99 bytes"


def test_renyi_efficiency_falls_when_one_token_dominates() -> None:
    document = trained()
    even = measure("renyi_efficiency", document, ["abcdefghij"]).value
    skewed = measure("renyi_efficiency", document, ["a b c zzzzzzzzzzzzzzzzzzzzz"]).value
    assert even is not None
    assert skewed is not None
    assert skewed < even
