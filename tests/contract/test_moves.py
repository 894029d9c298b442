"""Transfer, extend, prune and distil on tiny models; recipes; figures mean nothing here."""

import json
import os
import socket
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, normalizers
from torch import multiprocessing

from jeton.core.run import to_json
from jeton.core.vocabulary import Vocabulary, load_vocabulary
from jeton.errors import (
    ConfigError,
    CorruptRunError,
    InputError,
    JetonError,
    TokenizerError,
    TokenizerMismatchError,
    UnknownMethodError,
)
from jeton.learn.registry import LEARNERS
from jeton.retrofit.moves.config import MoveConfig
from jeton.retrofit.moves.destination import byte_vocabulary, check_destination
from jeton.retrofit.moves.language import check_language, main_script
from jeton.retrofit.moves.pipeline import move, resume_move
from jeton.retrofit.moves.stages import gap_closed
from jeton.testing.models import tiny_fallback_tokenizer, tiny_model, tiny_tokenizer
from jeton.transfer.registry import HEALERS, INITIALIZERS, RECIPES

TINY = {"length": "32", "batch_tokens": "64", "micro_tokens": "64", "checkpoint_s": "0"}


def options(*methods: str) -> dict[str, str]:
    return {f"{method}.{name}": value for method in methods for name, value in TINY.items()}


def write_model(folder: Path, family: str, tokenizer: Tokenizer, seed: int = 0) -> Path:
    size = tokenizer.get_vocab_size()
    tiny_model(family, seed, vocab_size=size + 3).save_pretrained(folder)  # three padded rows
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def make_function(number: int) -> str:
    return (
        f"def compute_{number}(value, other):\n"
        f"    if value is None:\n        raise ValueError(other)\n"
        f"    return value + other * {number}\n\n\n"
    )


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for index in range(24):
        body = "".join(make_function(20 * index + i) for i in range(12))
        (folder / f"module_{index:02d}.py").write_text(body)
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model folders of families that treat their embeddings differently."""
    root = tmp_path_factory.mktemp("models")
    families = ("llama", "gemma2", "qwen2")
    made = {
        family: write_model(root / family, family, tiny_tokenizer(), seed)
        for seed, family in enumerate(families)
    }
    fallback = tiny_fallback_tokenizer()
    made["gemma2-fallback"] = write_model(root / "gemma2-fallback", "gemma2", fallback)
    return made


@pytest.fixture(scope="module")
def general(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("general") / "prose.txt"
    path.write_text("The ferry left at a quarter past six, and the harbour was grey.\n" * 60)
    return path


@pytest.fixture
def config(models: dict[str, Path], text_folder: Path, general: Path, tmp_path: Path) -> MoveConfig:
    return MoveConfig(
        verb="transfer",
        model=str(models["llama"]),
        to="bytes",
        text=(text_folder,),
        general=(general,),
        out=tmp_path / "out",
        steps=2,
        verify_bytes=1500,
        options=options("cross_entropy"),
    )


CASES: dict[str, dict[str, Any]] = {
    "bytes": {"to": "bytes", "control": True, "steps": 2},
    "learned": {"to": "bpe", "vocab_size": 320, "model": "gemma2"},
    "other model": {"to": "qwen2", "model": "gemma2", "heal": "alm", "options": options("alm")},
    "extend": {"verb": "extend", "to": "", "num_tokens": 16, "model": "qwen2"},
    "prune": {"verb": "prune", "to": "", "steps": 0, "options": {}},
    "extend, byte fallback": {
        "verb": "extend",
        "to": "",
        "num_tokens": 16,
        "model": "gemma2-fallback",
    },
    "prune, byte fallback": {
        "verb": "prune",
        "to": "",
        "steps": 0,
        "options": {},
        "model": "gemma2-fallback",
    },
    "distill": {
        "verb": "distill",
        "to": "",
        "teacher": "gemma2",
        "model": "llama",
        "options": options("alm"),
    },
}


@pytest.mark.parametrize("case", CASES)
def test_a_move_leaves_an_ordinary_folder_and_its_certificate(
    config: MoveConfig, models: dict[str, Path], case: str
):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    changes = {
        k: str(models.get(v, v)) if isinstance(v, str) else v for k, v in CASES[case].items()
    }
    config = replace(config, **changes)
    result = move(config)
    assert sorted(p.name for p in config.out.iterdir()) == [
        "items.jsonl", "jeton.json", "model", "report.html", "result.json", "run.json",
    ]  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(config.out / "model")
    tokenizer = AutoTokenizer.from_pretrained(config.out / "model")
    vocabulary = load_vocabulary(config.out / "model")
    text = "def compute_7(value):\n    return é\n"
    ids = tokenizer(text)["input_ids"]
    assert ids == vocabulary.encode(text)
    assert tokenizer.decode(ids) == text
    logits = model(torch.tensor([ids])).logits
    assert logits.shape[-1] == vocabulary.vocab_size == result.destination.vocab_size
    assert bool(torch.isfinite(logits).all())
    assert model.config.eos_token_id == vocabulary.special_tokens["<s>"]
    assert json.loads((config.out / "result.json").read_text())["verb"] == config.verb
    provenance = json.loads((config.out / "model" / "jeton.json").read_text())
    assert provenance["method"]["verb"] == config.verb
    page = (config.out / "report.html").read_text(encoding="utf-8")
    assert "bits per byte" in page and "<svg" in page
    assert ("student after" in page) == (config.verb == "distill")
    assert (">destination<" in page) == (config.verb != "distill")
    kept = (result.num_new_tokens, result.num_kept_tokens) == (0, result.source.vocab_size)
    assert ("The vocabulary is the source" in page) == kept
    start, before = result.bits_per_byte_at_start, result.source_bits_per_byte_at_start
    assert ("where the source has" in page) == (len(result.healing) > 1 and start != before)
    assert 0 <= result.agreement.identical <= result.agreement.share <= 1
    assert (result.control is not None) == config.control
    assert result.source.num_embeddings == result.source.vocab_size + 3
    if case == "bytes":
        assert result.destination.bytes_per_token == 1
        assert result.control is not None and result.control.steps > 0
    if case.startswith(("prune", "distill")):  # every row is the source's
        assert result.num_new_tokens == result.num_composed_rows == 0
        assert result.bits_per_byte_at_start == pytest.approx(
            result.source_bits_per_byte_at_start, rel=0.2
        )
    if case.startswith("extend"):
        assert result.num_new_tokens == 16
    if case == "distill":
        assert result.teacher is not None
        assert result.heal == "alm"


class PressesCtrlC:
    """Interrupts at a stage."""

    def __init__(self, stage: str) -> None:
        self.at = stage

    def stage(self, what: str) -> None:
        if what == self.at:
            raise KeyboardInterrupt

    def track(self, items: Any, total: Any, what: str, unit: str) -> Any:
        yield from items


def test_an_interrupted_move_resumes_to_the_same_figures(config: MoveConfig, tmp_path: Path):
    straight = move(config)
    other = replace(config, out=tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        move(other, progress=PressesCtrlC("destination figures"))
    assert not (other.out / "result.json").exists()
    with pytest.raises(ConfigError, match="jeton transfer"):
        resume_move("extend", other.out)
    resumed = resume_move("transfer", other.out)
    assert resumed.destination == straight.destination
    assert resumed.agreement == straight.agreement
    assert [p[0] for p in resumed.healing] == [p[0] for p in straight.healing]
    again = resume_move("transfer", other.out)  # finished: only certified again
    assert again.destination == resumed.destination
    with pytest.raises((ConfigError, CorruptRunError)):
        move(other)


def _move_as_torchrun_does(rank: int, port: int, document: dict[str, Any]) -> None:
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    torch.set_num_threads(1)
    move(MoveConfig.from_json(document))


@pytest.mark.slow
def test_two_processes_move_like_one(
    config: MoveConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    given = {**config.options, "cross_entropy.precision": "float32"}
    config = replace(config, control=True, steps=3, options=given)
    alone = move(config)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    other = replace(config, out=tmp_path / "two")
    monkeypatch.syspath_prepend(Path(__file__).parents[2])  # the workers import this file
    multiprocessing.spawn(_move_as_torchrun_does, (port, to_json(other)), nprocs=2)
    found = json.loads((other.out / "result.json").read_text())
    for name in ("bits_per_byte", "general_bits_per_byte"):
        assert found["destination"][name] == pytest.approx(
            getattr(alone.destination, name), rel=1e-5
        )
    assert found["control"]["steps"] > 0
    lines = (other.out / "items.jsonl").read_text().splitlines()
    stages = [json.loads(line)["stage"] for line in lines]
    assert len(stages) == len(set(stages)) == 9, "the first process alone writes"
    assert not (other.out / "work").exists()


@pytest.mark.parametrize("name", RECIPES.names())
def test_recipe_names_methods_that_take_its_options(name: str, config: MoveConfig):
    asked = replace(config, to="", recipe=name, options={}).resolved()
    settings = RECIPES.create(name).settings()
    assert (asked.to, asked.init, asked.heal) == (settings.to, settings.init, settings.heal)
    LEARNERS.create(asked.to, asked.options_for(asked.to))
    INITIALIZERS.create(asked.init, asked.options_for(asked.init))
    HEALERS.create(asked.heal, asked.options_for(asked.heal))
    methods = {asked.to, asked.init, asked.heal}
    assert {k.partition(".")[0] for k in asked.options} <= methods
    mine = replace(config, to="bytes", heal="embedding_ce", recipe=name, options={}).resolved()
    assert (mine.to, mine.heal) == ("bytes", "embedding_ce")
    assert not mine.options_for(settings.heal) or settings.heal == "embedding_ce"


@pytest.mark.filterwarnings("ignore:the text does not look like")  # code is no language
@pytest.mark.parametrize("name", RECIPES.names())
def test_a_recipe_runs(config: MoveConfig, name: str):
    heal = RECIPES.create(name).settings().heal
    asked = replace(
        config, to="", recipe=name, num_tokens=8, vocab_size=0, steps=1, options=options(heal)
    )
    result = move(asked)
    assert result.recipe == name
    assert result.healing_steps == 1
    if name != "chocollama":  # which learns a vocabulary afresh
        assert result.num_new_tokens == 8


BAD: dict[str, tuple[dict[str, Any], type[JetonError]]] = {
    "no such tokenizer": ({"to": "no/where"}, InputError),
    "unknown init": ({"init": "meen"}, UnknownMethodError),
    "unknown healer": ({"heal": "alm2"}, UnknownMethodError),
    "unknown recipe": ({"recipe": "coco"}, UnknownMethodError),
    "stray option": ({"options": {"lora.r": "2"}}, ConfigError),
    "unknown language": ({"language": "xx"}, ConfigError),
    "missing text": ({"text": (Path("does-not-exist"),)}, InputError),
    "no model": ({"model": "no/such/model"}, JetonError),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_input_is_a_typed_error(config: MoveConfig, name: str):
    changes, error = BAD[name]
    with pytest.raises(error):
        move(replace(config, **changes))
    assert not config.out.exists()


@pytest.mark.parametrize(
    "bad",
    [{"minutes": -1.0}, {"steps": -2}, {"dtype": "int8"}, {"text": ()}, {"to": ""},
     {"verb": "distill"}, {"growth": -1.0}, {"num_tokens": -1}],
)  # fmt: skip
def test_bad_settings_are_refused(config: MoveConfig, bad: dict[str, Any]):
    with pytest.raises(ConfigError):
        replace(config, **bad)


def test_tokenizer_without_a_tokenizer_json_is_refused(config: MoveConfig, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        move(replace(config, to=str(tmp_path / "empty")))
    assert not config.out.exists()


def changed(**parts: Any) -> Vocabulary:
    return Vocabulary.from_tokenizer_json({**json.loads(tiny_tokenizer().to_str()), **parts})


def test_destination_without_all_bytes_names_the_text():
    document = json.loads(tiny_tokenizer().to_str())
    document["model"]["vocab"] = {"a": 0, "b": 1, "<s>": 2}
    document["model"]["merges"] = []
    document["added_tokens"][0]["id"] = 2
    poor = Vocabulary.from_tokenizer_json(document)
    source = Vocabulary.from_tokenizer_json(tiny_tokenizer().to_str())
    with pytest.raises(TokenizerMismatchError, match="cannot write 'abc'"):
        check_destination(source, poor, ["ab", "abc"])
    with pytest.warns(UserWarning, match="no token for some bytes"):
        check_destination(source, poor, ["ab"])


def test_normalizer_that_changes_bytes_is_named():
    tokenizer = tiny_tokenizer()
    source = Vocabulary.from_tokenizer_json(tokenizer.to_str())
    tokenizer.normalizer = normalizers.Lowercase()
    lower = Vocabulary.from_tokenizer_json(tokenizer.to_str())
    with pytest.raises(TokenizerMismatchError) as caught:
        check_destination(source, lower, ["Shouting"])
    assert "normalizer" in str(caught.value.hint)
    with pytest.warns(UserWarning, match="normalizer"):
        check_destination(source, lower, ["quiet"])


def test_special_tokens_that_clash_are_refused():
    source = Vocabulary.from_tokenizer_json(tiny_tokenizer().to_str())
    document = json.loads(tiny_tokenizer().to_str())
    document["added_tokens"].append(
        {**document["added_tokens"][0], "content": "the", "id": source.tokens.index(b"the")}
    )
    clashing = Vocabulary.from_tokenizer_json(document)
    with pytest.raises(TokenizerMismatchError, match="'the'"):
        check_destination(source, clashing, ["a"])


def test_byte_vocabulary_has_the_bytes_and_the_special_tokens():
    source = Vocabulary.from_tokenizer_json(tiny_tokenizer().to_str())
    learned = byte_vocabulary(source)
    found = learned.vocabulary()
    assert learned.vocab_size == found.vocab_size == 257
    assert found.special_tokens == {"<s>": 0}
    data = bytes(range(256)) * 2
    assert found.decode(found.encode(data)) == data
    assert len(found.encode("Ünder")) == 6


TEXTS = {
    "en": "The ship of the line was in the harbour, and it is not for the men on it to be late.",
    "nl": "Het schip ligt in de haven en de mannen zijn niet te laat; dat is het ook voor ons.",
    "pt": "O navio está no porto e os homens não se atrasam, o que é bom para uma cidade do rio.",
    "ru": "Корабль стоит в гавани, и люди не опаздывают.",
}


@pytest.mark.parametrize("wanted", TEXTS)
@pytest.mark.parametrize("given", TEXTS)
def test_another_language_is_warned_of(wanted: str, given: str):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_language(wanted, [TEXTS[given]])
    assert bool(caught) == (wanted != given)
    assert main_script(TEXTS[given]) == ("CYRILLIC" if given == "ru" else "LATIN")


def test_gap_closed_is_that_of_the_formula():
    from jeton.retrofit.moves.result import Control

    done = {
        "transplant": {"bits_per_byte": 2.0, "source_bits_per_byte": 1.0},
        "destination figures": {"domain": {"bits_per_byte": 1.0}},
    }
    assert gap_closed(done, Control(1, 1.0, 0.9, 1.0)) == pytest.approx(0.9)
    assert gap_closed(done, None) is None
