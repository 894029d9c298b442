"""Running an audit and checking conditions."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from jeton.audit.conditions import check, parse_fail_on
from jeton.audit.evidence import AuditInput
from jeton.audit.run import audit
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError, InputError, UnknownMethodError

TEXTS = {"eng": ["some words of English text", "more words"], "fra": ["des mots français", "oui"]}


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([t for texts in TEXTS.values() for t in texts], trainer)
    return Vocabulary.from_tokenizer_json(tokenizer.to_str(), name="tiny")


def test_audit_without_text_gives_what_the_vocabulary_alone_says(vocabulary: Vocabulary) -> None:
    result = audit(vocabulary)
    assert result.figure("dead") is not None
    assert result.figure("bytes_per_token") is None
    assert result.skipped["bytes_per_token"] == "text to measure on"
    assert result.num_tokens == 0


def test_audit_of_a_list_of_documents(vocabulary: Vocabulary) -> None:
    result = audit(vocabulary, TEXTS["eng"])
    figure = result.figure("bytes_per_token")
    assert figure is not None
    assert figure.value == pytest.approx(result.num_bytes / result.num_tokens)
    assert list(figure.groups) == ["text"]
    assert result.num_documents == 2


def test_strip_shows_both_tokenizers_and_keeps_the_bytes(vocabulary: Vocabulary) -> None:
    result = audit(vocabulary, TEXTS, against=vocabulary)
    assert {line.group for line in result.strip} == {"eng", "fra"}
    for line in result.strip:
        assert b"".join(line.tokens) == line.text.encode() == b"".join(line.tokens_against)


def test_one_string_is_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(InputError, match="got one str"):
        audit(vocabulary, "text")


def test_lone_surrogates_are_refused_by_place(vocabulary: Vocabulary) -> None:
    with pytest.raises(InputError, match=r"text 1 holds the lone surrogate .* at character 2"):
        audit(vocabulary, ["fine", "ab\ud800"])


def test_empty_texts_count_as_no_text(vocabulary: Vocabulary) -> None:
    result = audit(vocabulary, {"eng": [""], "fra": []})
    assert "bytes_per_token" in result.skipped


def test_unknown_metric_offers_near_names(vocabulary: Vocabulary) -> None:
    with pytest.raises(UnknownMethodError) as caught:
        audit(vocabulary, metrics=["fertilty"])
    assert "fertility" in (caught.value.hint or "")


def test_named_metric_without_its_evidence_is_an_error(vocabulary: Vocabulary) -> None:
    with pytest.raises(ConfigError, match="fertility needs text"):
        audit(vocabulary, metrics=["fertility"])


def test_parallel_text_needs_equal_lengths(vocabulary: Vocabulary) -> None:
    with pytest.raises(InputError, match="as many documents in every group"):
        AuditInput(vocabulary, {"eng": ["a"], "fra": ["b", "c"]}, is_parallel=True)


def test_reference_must_be_a_group(vocabulary: Vocabulary) -> None:
    with pytest.raises(ConfigError, match="'deu' has no text"):
        AuditInput(vocabulary, TEXTS, reference="deu")
    assert AuditInput(vocabulary, TEXTS).reference_group == "eng"
    assert AuditInput(vocabulary, {"fra": ["a"], "deu": ["b"]}).reference_group == "deu"


def test_conditions_that_hold_are_failures(vocabulary: Vocabulary) -> None:
    result = audit(vocabulary, TEXTS)
    conditions = parse_fail_on("fertility>0.5, dead>0, bytes-per-token[fra] <= 100")
    failures = check(result, conditions)
    assert [str(f.condition) for f in failures] == ["fertility>0.5", "bytes_per_token[fra]<=100"]
    figure = result.figure("fertility")
    assert figure is not None
    assert failures[0].value == figure.value


@pytest.mark.parametrize("expression", ["", "dead", "dead>", ">3", "dead>three", "dead>0,,", "a=1"])
def test_what_is_no_condition_is_refused(expression: str) -> None:
    with pytest.raises(ConfigError, match="is not a"):
        parse_fail_on(expression)


def test_condition_on_unknown_metric_offers_near_names() -> None:
    with pytest.raises(ConfigError, match="no metric 'deaad'") as caught:
        parse_fail_on("deaad>0")
    assert caught.value.hint == "did you mean dead or adt?"


def test_condition_on_what_was_not_measured_does_not_pass_unseen(vocabulary: Vocabulary) -> None:
    result = audit(vocabulary)
    with pytest.raises(ConfigError, match="it needs text to measure on"):
        check(result, parse_fail_on("fertility>3"))
    partial = audit(vocabulary, TEXTS, metrics=["fertility"])
    with pytest.raises(ConfigError, match="not among the metrics asked for"):
        check(partial, parse_fail_on("dead>0"))
    with pytest.raises(ConfigError, match="no group 'frr'") as caught:
        check(partial, parse_fail_on("fertility[frr]>3"))
    assert caught.value.hint == "did you mean fra?"
