"""What transfer, extend, prune and distill refuse or warn of, as a user meets it."""

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, normalizers
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from jeton.testing.models import tiny_model, tiny_tokenizer

Jeton = Callable[..., Any]
SMALL = [
    *("--set", "cross_entropy.length=16", "--set", "cross_entropy.batch_tokens=64"),
    *("--set", "cross_entropy.micro_tokens=64", "--set", "cross_entropy.checkpoint_s=0"),
]


def write_tokenizer(folder: Path, document: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def document_of(tokenizer: Tokenizer) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    return document


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with three rows that no token uses."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer()
    tiny_model("llama", vocab_size=tokenizer.get_vocab_size() + 3).save_pretrained(folder)
    return write_tokenizer(folder, document_of(tokenizer))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for index in range(12):
        lines = (f"The {word} left at {index}, and the harbour was grey.\n" for word in "abcdefgh")
        (folder / f"{index}.txt").write_text("".join(lines) * 3, encoding="utf-8")
    return folder


@pytest.fixture
def asked(model: Path, text: Path, tmp_path: Path) -> list[str]:
    """The beginning of a transfer that heals nothing."""
    return [
        *("transfer", str(model), "--text", str(text), "--out", str(tmp_path / "out")),
        *("--steps", "0", "--verify-bytes", "1000", "-q"),
    ]


def without_bytes() -> dict[str, Any]:
    """A tokenizer that has no token for a space."""
    document = document_of(tiny_tokenizer())
    names = [name for name in document["model"]["vocab"] if "Ġ" not in name]
    document["model"]["vocab"] = {name: token_id for token_id, name in enumerate(names)}
    merges = document["model"]["merges"]
    document["model"]["merges"] = [pair for pair in merges if "Ġ" not in "".join(pair)]
    return document


def clashing() -> dict[str, Any]:
    document = document_of(tiny_tokenizer())
    entry = {**document["added_tokens"][0], "content": "the"}
    document["added_tokens"].append({**entry, "id": document["model"]["vocab"]["the"]})
    return document


def lowercasing() -> dict[str, Any]:
    tokenizer = tiny_tokenizer()
    tokenizer.normalizer = normalizers.Lowercase()
    return document_of(tokenizer)


BAD: dict[str, tuple[Callable[[], dict[str, Any]], str, str]] = {
    "no token for a byte": (without_bytes, "cannot write", "--to bytes"),
    "clashing special tokens": (clashing, "'the'", "rename"),
    "normalizer that changes bytes": (lowercasing, "cannot write", "normalizer (lowercase)"),
}


@pytest.mark.parametrize("case", BAD)
def test_destination_that_cannot_work_is_refused_with_the_fix(
    jeton: Jeton, asked: list[str], tmp_path: Path, case: str
) -> None:
    make, message, hint = BAD[case]
    folder = write_tokenizer(tmp_path / "to", make())
    found = jeton(*asked, "--to", str(folder))
    assert found.code == 2, found.err
    assert message in found.err.partition("hint: ")[0]
    assert hint in found.err.partition("hint: ")[2]
    assert not (tmp_path / "out").exists(), "the same --out can be given again"


def test_broken_tokenizer_is_refused(jeton: Jeton, asked: list[str], tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "to", {})
    (folder / "tokenizer.json").write_text('{"model": {"type"', encoding="utf-8")
    found = jeton(*asked, "--to", str(folder))
    assert found.code == 2, found.err
    assert str(folder) in found.err or "to is not whole JSON" in found.err
    assert "Traceback" not in found.err
    assert not (tmp_path / "out").exists()


def changed_model(model: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_quantised_embeddings_are_refused(
    jeton: Jeton, asked: list[str], model: Path, tmp_path: Path
) -> None:
    def quantise(weights: dict[str, Any]) -> None:
        name = "model.embed_tokens.weight"
        weights[name] = (weights[name] * 100).to(torch.int8)

    folder = changed_model(model, tmp_path / "int8", quantise)
    found = jeton("transfer", str(folder), *asked[2:], "--to", "bytes")
    assert found.code == 2, found.err
    assert "quanti" in found.err
    assert "without quantisation" in found.err.partition("hint: ")[2]
    assert not (tmp_path / "out").exists()


def test_checkpoint_that_names_a_quantisation_is_refused(
    jeton: Jeton, asked: list[str], model: Path, tmp_path: Path
) -> None:
    folder = changed_model(model, tmp_path / "gptq", lambda weights: None)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    (folder / "config.json").write_text(json.dumps(config))
    found = jeton("transfer", str(folder), *asked[2:], "--to", "bytes")
    assert found.code == 2, found.err
    assert "quanti" in found.err
    assert "hint: " in found.err


def test_tokenizer_with_more_ids_than_rows_is_refused(
    jeton: Jeton, asked: list[str], model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "short"
    tiny_model("llama", vocab_size=100).save_pretrained(folder)
    write_tokenizer(folder, document_of(tiny_tokenizer()))
    found = jeton("transfer", str(folder), *asked[2:], "--to", "bytes")
    assert found.code == 2, found.err
    assert "100" in found.err
    assert "hint: " in found.err


def test_rows_that_no_token_uses_are_dropped_and_said(
    jeton: Jeton, asked: list[str], tmp_path: Path
) -> None:
    found = jeton(*asked, "--to", "bytes", "--json")
    assert found.code == 0, found.err
    document = json.loads(found.out)
    source, destination = document["source"], document["destination"]
    assert source["num_embeddings"] == source["vocab_size"] + 3
    assert destination["num_embeddings"] == destination["vocab_size"] == 257
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "3 rows of the source that no token uses were dropped" in page


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("language", ["en", "nl", "ru"])
def test_text_of_another_language_is_warned_of(
    jeton: Jeton, asked: list[str], language: str
) -> None:
    found = jeton(*asked, "--to", "bytes", "--language", language)
    assert found.code == 0, found.err
    assert ("warning: the text does not look like" in found.err) == (language != "en")
    assert language == "en" or ("--text" in found.err and "--language" in found.err)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """No embedding takes more than one row at a time while gradients are wanted."""

    def refuse(module: torch.nn.Module, given: tuple[Any, ...]) -> None:
        is_large = isinstance(module, torch.nn.Embedding) and len(given[0]) > 1
        if is_large and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("out of memory, tried to allocate 2 GiB")

    handle = register_module_forward_pre_hook(refuse)
    yield
    handle.remove()


@pytest.mark.filterwarnings("default")
def test_out_of_memory_goes_on_with_less_and_says_so(
    jeton: Jeton, asked: list[str], little_memory: None
) -> None:
    options = ["--to", "bytes", "--set", "cross_entropy.precision=float32", *SMALL]
    found = jeton(*asked, *options, "--steps", "2", "--json")
    assert found.code == 0, found.err
    assert "warning: out of memory in healing; going on with 2 rows of 16" in found.err
    assert "with 1 rows of 16 tokens at once (--set METHOD.micro_tokens=16)" in found.err
    assert json.loads(found.out)["healing_steps"] == 2


@contextlib.contextmanager
def counted_steps(press_at: int = 0) -> Iterator[list[int]]:
    """Count optimizer steps, and press Ctrl-C in one of them."""
    steps: list[int] = []

    def note(optimizer: Any, *_: Any) -> None:
        steps.append(len(steps) + 1)
        if len(steps) == press_at:
            os.kill(os.getpid(), signal.SIGINT)

    handle = register_optimizer_step_post_hook(note)
    try:
        yield steps
    finally:
        handle.remove()


def test_ctrl_c_while_healing_ends_with_130_and_goes_on_to_the_same_figures(
    jeton: Jeton, asked: list[str], tmp_path: Path
) -> None:
    asked += ["--to", "bytes", *SMALL, "--steps", "6", "--json"]
    straight = json.loads(jeton(*asked).out)
    asked[asked.index("--out") + 1] = str(tmp_path / "killed")
    with counted_steps(press_at=4):
        cut = jeton(*asked)
    assert (cut.code, cut.out) == (130, ""), cut.err
    assert "interrupted" in cut.err
    assert jeton(*asked).code == 2, "a folder that exists is not begun again"
    with counted_steps() as steps:
        resumed = jeton("transfer", "--resume", str(tmp_path / "killed"), "--json", "-q")
    assert resumed.code == 0, resumed.err
    assert len(steps) == 2, "steps that were done are not done again"
    again = json.loads(resumed.out)
    for name in ("source", "destination", "agreement", "bits_per_byte_at_start"):
        assert again[name] == straight[name], name
    assert [p[::2] for p in again["healing"]] == [p[::2] for p in straight["healing"]]
    assert not (tmp_path / "killed" / "work").exists()


def test_ctrl_c_in_the_control_goes_on_with_the_steps_that_were_planned(
    jeton: Jeton, asked: list[str], tmp_path: Path
) -> None:
    few = [*SMALL, "--set", "cross_entropy.embeddings_only=0", "--steps", "30", "--control"]
    with counted_steps(press_at=30 + 4 + 2):  # healing, the plan's probe, two of the control
        cut = jeton(*asked, "--to", "bytes", *few)
    assert cut.code == 130, cut.err
    items = (tmp_path / "out" / "items.jsonl").read_text().splitlines()
    planned = json.loads(items[-1])
    assert planned["stage"] == "control plan"
    planned_steps = planned["outcome"]["num_steps"]
    assert planned_steps > 2
    with counted_steps() as steps:
        resumed = jeton("transfer", "--resume", str(tmp_path / "out"), "--json", "-q")
    assert resumed.code == 0, resumed.err
    assert len(steps) == planned_steps - 2
    assert json.loads(resumed.out)["control"]["steps"] == planned_steps
