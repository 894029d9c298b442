"""Each metric finds a defect planted in a tiny tokenizer."""

import json
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from jeton.audit.contract import MetricResult
from jeton.audit.evidence import AuditInput, Embeddings
from jeton.audit.metrics.character_tasks import make_tasks
from jeton.audit.registry import METRICS
from jeton.core.vocabulary import Vocabulary

UNUSED_BYTES = (0xC0, 0xC1, *range(0xF5, 0x100))
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


def test_dead_finds_what_the_normalizer_never_writes() -> None:
    document = trained()
    document["normalizer"] = {"type": "Lowercase"}
    found = measure("dead", document).witnesses
    assert {w.token for w in found} >= {"A", "Q"}
    assert "never writes" in found[0].detail


def test_dead_finds_what_the_pre_tokenizer_cuts() -> None:
    document = trained()
    token_id = add_entry(document, "t1")
    document["model"]["merges"].append(["t", "1"])
    found = measure("dead", document).witnesses
    assert [(w.token_id, w.detail) for w in found] == [
        (token_id, "the pre-tokenizer cuts it in every text")
    ]


def test_dead_finds_a_letter_that_one_pretoken_holds_and_merges_away() -> None:
    document = trained()
    token_id = add_entry(document, "'r")
    add_entry(document, "'re")
    document["model"]["merges"] = [["'", "r"], ["'r", "e"], *document["model"]["merges"]]
    found = measure("dead", document).witnesses
    assert found[0].token_id == token_id
    assert found[0].detail.startswith('only 1 pretokens hold it ("\'re")')


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


def test_premium_finds_the_language_that_pays() -> None:
    vocabulary = Vocabulary.from_tokenizer_json(trained(), name="planted")
    texts = {"eng": TEXT[:2], "xxx": ["ж" * 40, "щ" * 40]}
    given = AuditInput(vocabulary, texts, is_parallel=True)
    result = METRICS.create("premium").measure(given)
    assert result.value == result.groups["xxx"]
    assert result.value > 3
    assert result.interval is not None
    assert result.interval[0] <= result.value <= result.interval[1]


def test_redundant_merges_finds_a_second_way_to_the_same_token() -> None:
    document = trained()
    assert measure("redundant_merges", document).value == 0
    left, right = next(m for m in document["model"]["merges"] if len(m[0]) > 1)
    add_entry(document, left[1:] + right)
    document["model"]["merges"] += [[left[1:], right], [left[:1], left[1:] + right]]
    result = measure("redundant_merges", document)
    assert result.value is not None
    assert result.value >= 1
    assert result.witnesses[-1].detail.endswith("is built by another merge")


@pytest.mark.parametrize("is_tied", [True, False])
def test_under_trained_finds_a_row_like_the_unused_ones(is_tied: bool) -> None:
    vocabulary = Vocabulary.from_tokenizer_json(trained(), name="planted")
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(vocabulary.vocab_size + 4, 16))
    unused = [i for i, t in enumerate(vocabulary.tokens) if len(t) == 1 and t[0] in UNUSED_BYTES]
    unused += range(vocabulary.vocab_size, len(rows))  # padding
    planted = 290
    for row in unused:
        rows[row] = 0.01 * generator.normal(size=16) + 0.05
    embeddings = Embeddings(rows, None if is_tied else generator.normal(size=rows.shape))
    nothing = METRICS.create("under_trained").measure(AuditInput(vocabulary, embeddings=embeddings))
    assert nothing.value == 0
    rows[planted] = rows[unused[0]]  # as an unused row
    found = METRICS.create("under_trained").measure(AuditInput(vocabulary, embeddings=embeddings))
    assert [w.token_id for w in found.witnesses] == [planted]


def test_sensitivity_grows_when_a_word_has_its_own_token() -> None:
    flat = measure("sensitivity", trained(256), ["banana"] * 3).value
    whole = measure("sensitivity", trained(300), ["banana"] * 3).value
    assert flat is not None
    assert whole is not None
    assert whole > flat


def test_digit_arithmetic_sees_that_groups_from_the_left_do_not_line_up() -> None:
    left = measure("digit_arithmetic", split_digits(trained(258), r"\p{N}{1,3}")).value
    pattern = r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"
    right = measure("digit_arithmetic", split_digits(trained(258), pattern)).value
    assert right == 1
    assert left is not None
    assert left < 0.6


def test_character_tasks_are_right_and_harder_with_long_tokens() -> None:
    vocabulary = Vocabulary.from_tokenizer_json(trained(300), name="planted")
    for task in make_tasks(vocabulary, ["banana", "anthem"], 30, seed=1):
        quoted = task.question.split('"')
        if task.question.startswith("How often"):
            assert task.answer == str(quoted[3].count(quoted[1]))
        else:
            place = int(task.question.split("number ")[1].split(" of")[0])
            assert task.answer == quoted[1][place - 1]


@pytest.mark.parametrize("order", [1, 3])
def test_markov_theory_holds_tokens_close_most_of_the_gap(order: int) -> None:
    metric = METRICS.create("markov_theory", {"order": order, "num_characters": 100_000})
    losses = metric.measure(AuditInput(Vocabulary.from_tokenizer_json(trained()))).groups
    assert losses["2 tokens"] == pytest.approx(1, abs=0.01)  # stuck at the stationary entropy
    assert losses["16 tokens"] > losses["64 tokens"] > losses["256 tokens"] > losses["entropy rate"]
    gap = losses["2 tokens"] - losses["entropy rate"]
    assert losses["256 tokens"] - losses["entropy rate"] < 0.2 * gap


def test_worst_case_latency_names_the_pattern_that_is_slow() -> None:
    class Clock:
        def __init__(self) -> None:
            self.looks = 0

        def __call__(self) -> float:
            self.looks += 1  # prose is timed by looks 1 and 2, "one letter" by 3 and 4
            return 100.0 if self.looks >= 4 else float(self.looks)

    vocabulary = Vocabulary.from_tokenizer_json(trained(), name="planted")
    metric = METRICS.create("worst_case_latency", {"clock": Clock(), "repeats": 1})
    result = metric.measure(AuditInput(vocabulary))
    assert result.detail.startswith("one letter")
