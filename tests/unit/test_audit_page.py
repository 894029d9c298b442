"""The page of an audit."""

import io

import pytest
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from jeton.audit.evidence import AuditInput
from jeton.audit.run import AuditResult, audit
from jeton.core.vocabulary import Vocabulary
from jeton.report.audit_page import audit_document
from jeton.report.document import Note, Table
from jeton.report.html import render_html
from jeton.report.terminal import render_terminal

TEXTS = {
    f"lang{n:02}": ["some <script>words</script> of text", f"more {'я' * n} words"]
    for n in range(20)
}


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([t for texts in TEXTS.values() for t in texts], trainer)
    return Vocabulary.from_tokenizer_json(tokenizer.to_str(), name="<b>tiny</b>")


@pytest.fixture(scope="module")
def results(vocabulary: Vocabulary) -> list[AuditResult]:
    given = AuditInput(vocabulary, TEXTS, is_parallel=True)
    return [
        audit(vocabulary),
        audit(vocabulary, ["plain text"]),
        audit(vocabulary, given=given, against=vocabulary),
        audit(vocabulary, metrics=["dead"]),
    ]


def test_every_audit_renders_as_page_and_in_the_terminal(results: list[AuditResult]) -> None:
    for result in results:
        document = audit_document(result)
        page = render_html(document)
        assert "<b>tiny" not in page
        assert "<script>words" not in page
        render_terminal(document, Console(file=io.StringIO(), width=80))


def test_headline_says_price_and_losses(results: list[AuditResult]) -> None:
    headline = audit_document(results[2]).headline
    assert "bytes per token" in headline
    assert "of 280 ids can never occur" in headline
    assert "the worst language pays" in headline


def test_what_is_wrong_lists_defects_or_says_that_there_are_none(
    results: list[AuditResult], vocabulary: Vocabulary
) -> None:
    healthy = audit_document(results[1])
    assert any(isinstance(b, Note) and "Nothing" in b.text for b in healthy.blocks)
    tokens = [*vocabulary.tokens[:-1], vocabulary.tokens[97]]
    assert tokens[-1] == tokens[97]
    duplicated = Vocabulary(
        name="twice",
        tokens=tokens,
        kinds=vocabulary.kinds,
        special_tokens={},
        added_tokens={},
        model_kind=vocabulary.model_kind,
        start_rule=vocabulary.start_rule,
        normalizer=None,
        source=vocabulary.source,
    )
    document = audit_document(audit(duplicated, metrics=["duplicates"]))
    tables = [block for block in document.blocks if isinstance(block, Table)]
    assert tables[0].cells()[0][0].value == "Duplicate tokens"
    assert tables[0].cells()[0][1].tone == "bad"


def test_text_that_becomes_unknown_tokens_is_no_good_figure() -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "some": 1, "words": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    vocabulary = Vocabulary.from_tokenizer_json(tokenizer.to_str())
    texts = {"known": ["some words"], "lost": ["incomprehensibilities"]}
    result = audit(vocabulary, texts, metrics=["bytes_per_token"])
    figure = result.figure("bytes_per_token")
    assert figure is not None
    assert list(figure.groups) == ["known"]
    document = audit_document(result)
    assert "33.3% of the tokens are unknown" in document.headline
    table = next(block for block in document.blocks if isinstance(block, Table))
    assert table.rows[-1][0] == "Unknown tokens"
