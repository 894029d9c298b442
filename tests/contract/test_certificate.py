"""What a certificate says is true of the folder beside it, measured anew by other means."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from jeton.lm.load import load_model
from jeton.report.html import render_html
from jeton.retrofit.healing import Healing
from jeton.retrofit.moves.agreement import CONTINUED_BYTES, continue_greedily, greedy_agreement
from jeton.retrofit.moves.config import MoveConfig
from jeton.retrofit.moves.page import move_document
from jeton.retrofit.moves.pipeline import move
from jeton.retrofit.moves.result import Control, MoveResult
from jeton.retrofit.moves.stages import GENERAL_LIMIT
from jeton.retrofit.result import lost_bits
from jeton.retrofit.texts import gather
from jeton.testing.models import tiny_language_model, tiny_model, tiny_tokenizer

SMALL = {"length": "32", "batch_tokens": "128", "micro_tokens": "128"}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> MoveConfig:
    """A transfer to bytes whose three kinds of text have nothing in common."""
    root = tmp_path_factory.mktemp("certificate")
    tokenizer = tiny_tokenizer()
    tiny_model("gemma2", vocab_size=tokenizer.get_vocab_size()).save_pretrained(root / "model")
    tokenizer.save(str(root / "model" / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<s>"}
    (root / "model" / "tokenizer_config.json").write_text(json.dumps(settings))
    for kind, letter in (("text", "a"), ("held_out", "b"), ("general", "c")):
        (root / kind).mkdir()
        for index in range(12):
            (root / kind / f"{index}.txt").write_text(f"{letter * 7} {index}\n" * 40)
    return MoveConfig(
        verb="transfer",
        model=str(root / "model"),
        to="bytes",
        text=(root / "text",),
        held_out=(root / "held_out",),
        general=(root / "general",),
        out=root / "out",
        steps=3,
        verify_bytes=1000,
        options={f"cross_entropy.{name}": value for name, value in SMALL.items()},
    ).resolved()


@pytest.fixture(scope="module")
def result(config: MoveConfig) -> MoveResult:
    return move(config)


def bits_by_transformers(folder: Path, texts: list[str]) -> float:
    """Bits per byte of short texts, each after an end-of-text, with nothing of ours."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    nats, num_bytes = 0.0, 0
    for text in texts:
        ids = [tokenizer.eos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, :-1]
        loss = functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum")
        nats, num_bytes = nats + float(loss), num_bytes + len(text.encode())
    return nats / torch.log(torch.tensor(2.0)).item() / num_bytes


def test_figures_are_those_of_the_saved_folder_on_text_that_was_not_trained_on(
    config: MoveConfig, result: MoveResult
) -> None:
    texts = gather(config)
    short = [text[:150] for text in texts.held_out]  # within one context of the tiny model
    folder = config.out / "model"
    expected = bits_by_transformers(folder, short)
    given = replace(config, verify_bytes=1000)
    assert gather(given).held_out == texts.held_out
    from jeton.lm.bits import bits_per_byte

    assert bits_per_byte(load_model(folder), short).bits_per_byte == pytest.approx(expected, 1e-4)
    whole = bits_per_byte(load_model(folder), texts.held_out)
    assert result.destination.bits_per_byte == pytest.approx(whole.bits_per_byte, 1e-6)
    assert result.destination.bytes_per_token == whole.bytes_per_token == 1
    general = bits_per_byte(load_model(folder), texts.general).bits_per_byte
    assert result.destination.general_bits_per_byte == pytest.approx(general, 1e-6)
    source = bits_per_byte(load_model(config.model), texts.held_out).bits_per_byte
    assert result.source.bits_per_byte == pytest.approx(source, 1e-6)
    assert result.held_out_bytes == sum(len(text.encode()) for text in texts.held_out)


def test_kinds_of_text_do_not_mix(config: MoveConfig) -> None:
    def letters(texts: Any) -> set[str]:
        return {letter for text in texts for letter in "abc" if letter in str(text)}

    texts = gather(config)
    assert letters(texts.train) == {"a"}
    assert letters(texts.held_out) == {"b"}
    assert letters(texts.general) == letters(texts.general_train) == {"c"}
    assert not set(texts.general) & set(texts.general_train)
    halves = gather(replace(config, held_out=()))
    assert halves.held_out
    assert not set(halves.held_out) & {str(text) for text in halves.train}


def test_healing_trains_on_the_text_and_on_general_text_only(config: MoveConfig) -> None:
    lm = tiny_language_model("gemma2")
    texts = gather(config)
    inputs = Healing(config, lm, lm.vocabulary, texts).inputs(3)
    assert inputs.replay_ids is not None
    spoken = [lm.vocabulary.bytes_of(ids.tolist()) for ids in (inputs.token_ids, inputs.replay_ids)]
    assert b"aaaaaaa" in spoken[0]
    assert b"b" not in spoken[0] + spoken[1]
    assert b"ccccccc" in spoken[1]
    assert b"a" not in spoken[1]
    alone = replace(config, general=())
    own = Healing(alone, lm, lm.vocabulary, gather(alone))
    assert own.inputs(3).replay_ids is not None, "the source writes general text itself"
    none = replace(alone, options={**config.options, "cross_entropy.replay": "0"})
    assert Healing(none, lm, lm.vocabulary, gather(none)).inputs(3).replay_ids is None


def test_general_text_changes_what_healing_ends_with(config: MoveConfig) -> None:
    lm = tiny_language_model("llama")
    rows = []
    for replay in ("0", "0.9"):
        given = replace(config, options={**config.options, "cross_entropy.replay": replay})
        model, _ = Healing(given, lm, lm.vocabulary, gather(given)).train(3, None)
        rows.append(model.get_input_embeddings().weight.detach())
    assert not torch.equal(*rows)


def test_agreement_is_that_of_the_bytes() -> None:
    texts = ["def f(x):\n    return x\n" * 30, "The ferry left.\n" * 30]
    lm, other = tiny_language_model("llama", 0), tiny_language_model("llama", 5)
    same = greedy_agreement(lm, lm, texts)
    assert (same.share, same.identical) == (1, 1)
    apart = greedy_agreement(lm, other, texts)
    assert apart.share < 1
    assert apart.identical < 1
    assert greedy_agreement(other, lm, texts) == apart, "neither side is the better one"


def test_continuation_is_that_of_transformers() -> None:
    lm = tiny_language_model("llama")
    prompt = b"def f(x):\n"
    start = lm.vocabulary.bos_token_id
    ids = ([] if start is None else [start]) + lm.vocabulary.encode(prompt)
    theirs = lm.model.generate(
        torch.tensor([ids]),
        max_new_tokens=CONTINUED_BYTES,
        do_sample=False,
        pad_token_id=0,
        suppress_tokens=list(range(lm.vocabulary.vocab_size, lm.num_embeddings)),
    )[0, len(ids) :].tolist()
    written = lm.vocabulary.bytes_of([i for i in theirs if i != lm.vocabulary.eos_token_id])
    ours = continue_greedily(lm, prompt)
    assert ours
    assert written.startswith(ours)


def test_what_is_worse_is_said_and_shown(result: MoveResult) -> None:
    source = result.source
    fine = replace(source, general_bits_per_byte=source.general_bits_per_byte * 1.009)
    assert lost_bits(source, fine, "alm", GENERAL_LIMIT) == []
    worse = replace(
        source,
        bits_per_byte=source.bits_per_byte * 1.001,
        general_bits_per_byte=source.general_bits_per_byte * 1.011,
    )
    found = lost_bits(source, worse, "alm", GENERAL_LIMIT)
    assert ["your text" in found[0], "general text" in found[1]] == [True, True]
    assert "alm.replay" in found[1]
    page = render_html(move_document(replace(result, destination=worse, regressions=found)))
    assert "Worse than the source" in page
    page = render_html(move_document(replace(result, destination=fine, regressions=[])))
    assert "Nothing became worse" in page


def test_the_page_says_how_the_control_did(result: MoveResult) -> None:
    control = Control(7, 3.0, result.destination.bits_per_byte / 1.25, 1.0)
    shown = replace(result, control=control, gap_closed=-0.5)
    page = " ".join(render_html(move_document(shown)).split())
    assert "needs 25.0% more bits per byte than the control" in page
    assert "grew by 50.0%" in page
    better = replace(control, bits_per_byte=result.destination.bits_per_byte * 2)
    page = render_html(move_document(replace(result, control=better, gap_closed=0.5)))
    assert "needs 50.0% fewer bits per byte than the control" in page
    assert "healing closed 50.0%" in page
    taught = replace(result, teacher=replace(result.source, name="models/wise"), verb="distill")
    assert "taught by wise with cross_entropy" in render_html(move_document(taught))
