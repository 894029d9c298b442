"""The atlas of tokenizers and languages."""

import io
import json

import pytest
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from jeton.audit.atlas import atlas, shipped_atlas
from jeton.audit.evidence import AuditInput
from jeton.audit.registry import METRICS
from jeton.core.run import to_json
from jeton.core.vocabulary import Vocabulary
from jeton.errors import ConfigError, InputError
from jeton.report.atlas_page import atlas_document
from jeton.report.html import render_html
from jeton.report.terminal import render_terminal

TEXTS = {"eng": ["the cat sat", "on the mat"], "rus": ["кот сидел", "на ковре"]}


def train(name: str, texts: list[str]) -> Vocabulary:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=275, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return Vocabulary.from_tokenizer_json(tokenizer.to_str(), name=name)


def test_fairest_tokenizer_comes_first() -> None:
    english = train("english", TEXTS["eng"])
    both = train("both", TEXTS["eng"] + TEXTS["rus"] * 2)
    result = atlas([english, both], TEXTS)
    assert [row.tokenizer for row in result.rows] == ["both", "english"]
    assert result.reference == "eng"
    assert result.languages == ["eng", "rus"]
    for row in result.rows:
        assert row.worst_language == "rus"
        assert row.median_premium == row.premiums["rus"]
    json.dumps(to_json(result), allow_nan=False)


def test_languages_that_become_unknown_tokens_have_no_premium() -> None:
    words = sorted({word for text in TEXTS["eng"] for word in text.split()})
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["?", *words])}, "?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    lossy = Vocabulary.from_tokenizer_json(tokenizer.to_str(), name="lossy")
    texts = {**TEXTS, "sco": ["the cat sat", "on the mat"]}
    both = train("both", TEXTS["eng"] + TEXTS["rus"] * 2)
    result = atlas([lossy, both], texts)
    assert [row.tokenizer for row in result.rows] == ["both", "lossy"]
    assert result.rows[1].unreadable == ["rus"]
    assert set(result.rows[1].premiums) == {"sco"}
    page = render_html(atlas_document(result))
    assert "lossy 1" in page
    given = AuditInput(lossy, texts, is_parallel=True, reference="eng")
    premium = METRICS.create("premium").measure(given)
    assert set(premium.groups) == {"sco"}
    assert "1 become unknown tokens: rus" in premium.detail
    alone = {name: texts[name] for name in ("eng", "rus")}
    given = AuditInput(lossy, alone, is_parallel=True, reference="eng")
    assert METRICS.create("premium").measure(given).value is None


def test_shipped_figures_make_an_atlas_and_a_page() -> None:
    result = shipped_atlas()
    assert result.reference == "eng"
    assert len(result.languages) == 68
    gpt2 = next(row for row in result.rows if row.tokenizer == "gpt2")
    assert gpt2.premiums["mya"] == pytest.approx(22.4, abs=0.05)
    assert all(row.is_shipped for row in result.rows)
    for row in result.rows:
        assert set(row.premiums) == set(result.languages) - {"eng", *row.unreadable}
    page = render_html(atlas_document(result))
    assert "Burmese in gpt2" in page
    render_terminal(atlas_document(result), Console(file=io.StringIO(), width=80))
    assert shipped_atlas("fra").rows[0].premiums["eng"] > 0
    with pytest.raises(ConfigError, match="no language 'xxx'"):
        shipped_atlas("xxx")


def test_shipped_figures_are_refused_for_another_text() -> None:
    with pytest.raises(ConfigError, match="another text"):
        atlas([train("one", TEXTS["eng"])], TEXTS, known=True)


def test_atlas_needs_tokenizers_and_languages() -> None:
    with pytest.raises(InputError, match="at least two languages"):
        atlas([], TEXTS)
    with pytest.raises(InputError, match="at least two languages"):
        atlas([train("one", TEXTS["eng"])], {"eng": ["a"], "rus": [""]})
