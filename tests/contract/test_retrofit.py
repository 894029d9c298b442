"""The main job on a tiny model: outcome, resume, refusals; figures mean nothing here."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jeton.core.run import RunFolder
from jeton.errors import (
    ConfigError,
    CorruptRunError,
    InputError,
    JetonError,
    UnknownMethodError,
)
from jeton.learn.registry import LEARNERS
from jeton.retrofit.config import RetrofitConfig
from jeton.retrofit.pipeline import resume, retrofit
from jeton.retrofit.rehearsal import rehearse
from jeton.retrofit.result import without_timings
from jeton.retrofit.stages import regressions
from jeton.testing.models import tiny_language_model, tiny_model, tiny_tokenizer

HEAL = {
    "cross_entropy.length": "32",
    "cross_entropy.batch_tokens": "128",
    "cross_entropy.micro_tokens": "64",
    "cross_entropy.checkpoint_s": "0",
}


def make_function(number: int) -> str:
    name = f"value_{number % 7}"
    return (
        f"def compute_{number}({name}, other):\n"
        f'    """Return {name} plus {number}."""\n'
        f"    if {name} is None:\n        raise ValueError(other)\n"
        f"    return {name} + other * {number}\n\n\n"
    )


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_model("llama", vocab_size=288, max_position_embeddings=256).save_pretrained(folder)
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for index in range(30):
        body = "".join(make_function(20 * index + i) for i in range(20))
        (folder / f"module_{index:02d}.py").write_text(body)
    return folder


@pytest.fixture
def config(model_folder: Path, text_folder: Path, tmp_path: Path) -> RetrofitConfig:
    return RetrofitConfig(
        model=str(model_folder),
        text=(text_folder,),
        out=tmp_path / "out",
        vocab_size=400,
        steps=4,
        verify_bytes=4000,
        options=HEAL,
    )


@pytest.mark.parametrize("learner", LEARNERS.names())
def test_every_learner_makes_a_model_that_loads(learner: str, config: RetrofitConfig):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options = {"kl3m_char.min_count": "1"} if learner == "kl3m_char" else {}
    given = replace(config, learner=learner, steps=0, options=options)
    result = retrofit(given)
    tokenizer = AutoTokenizer.from_pretrained(config.out / "model")
    model = AutoModelForCausalLM.from_pretrained(config.out / "model")
    assert len(tokenizer) == result.destination.vocab_size == model.config.vocab_size
    text = make_function(3)
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert result.num_copied_rows >= 256  # bytes at least


def snapshot(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}


def test_everything_promised_is_there(config: RetrofitConfig, model_folder: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    before = snapshot(model_folder)
    result = retrofit(config)
    assert snapshot(model_folder) == before, "the source was touched"
    assert sorted(p.name for p in config.out.iterdir()) == [
        "items.jsonl",
        "jeton.json",
        "model",
        "report.html",
        "result.json",
        "run.json",
    ]
    written = json.loads((config.out / "result.json").read_text())
    assert written["destination"]["vocab_size"] == 400
    assert written["destination"]["bytes_per_token"] > written["source"]["bytes_per_token"]
    assert result.num_new_tokens == 400 - result.num_kept_tokens
    assert result.healing_steps == 4
    assert "".join(t.decode() for t in result.strip[0]) == "".join(
        t.decode() for t in result.strip[1]
    )
    model = AutoModelForCausalLM.from_pretrained(config.out / "model")
    tokenizer = AutoTokenizer.from_pretrained(config.out / "model")
    ids = tokenizer("def compute(value):\n", return_tensors="pt")["input_ids"]
    assert bool(torch.isfinite(model(ids).logits).all())
    assert tokenizer.decode(ids[0]) == "def compute(value):\n"
    page = (config.out / "report.html").read_text(encoding="utf-8")
    assert "Bytes per token" in page and "<svg" in page
    # An untrained model cannot become better than itself on general text by 4 steps on code; if
    # it did become worse, the page says so.
    assert bool(result.regressions) == ("Worse than the source" in page)


@pytest.mark.parametrize("kill_at", ["destination", "heal"])
def test_a_killed_run_resumes_to_the_same_figures(
    config: RetrofitConfig, tmp_path: Path, kill_at: str
):
    straight = without_timings(to_document(retrofit(config)))
    out = tmp_path / "killed"
    script = (
        "import sys, pickle\n"
        "from pathlib import Path\n"
        "from jeton.retrofit.config import RetrofitConfig\n"
        "from jeton.retrofit.pipeline import retrofit\n"
        "import json\n"
        "config = RetrofitConfig.from_json(json.loads(sys.argv[1]))\n"
        "class Slow:\n"
        "    def stage(self, what):\n"
        "        print(what, flush=True)\n"
        "    def track(self, items, total, what, unit):\n"
        "        for index, item in enumerate(items):\n"
        "            yield item\n"
        "            if what == 'healing' and index == 1:\n"
        "                print('in the middle', flush=True)\n"
        "                import time; time.sleep(60)\n"
        "retrofit(config, progress=Slow())\n"
    )
    from jeton.core.run import to_json

    document = to_json(replace(config, out=out))
    process = subprocess.Popen(
        [sys.executable, "-c", script, json.dumps(document)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    wanted = "in the middle" if kill_at == "heal" else kill_at
    for line in process.stdout:
        if line.strip() == wanted:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (out / "result.json").exists()
    resumed = without_timings(to_document(resume(out)))
    assert resumed == {**straight}


def to_document(result: object) -> dict:
    from jeton.core.run import to_json

    document: dict = to_json(result)
    return document


def test_a_finished_run_can_be_certified_again(config: RetrofitConfig):
    first = to_document(retrofit(config))
    again = to_document(resume(config.out))
    assert without_timings(again) == without_timings(first)


def test_resuming_with_changed_text_is_refused(config: RetrofitConfig, tmp_path: Path):
    text = tmp_path / "mine"
    text.mkdir()
    for index in range(25):
        (text / f"{index}.py").write_text(make_function(index) * 5)
    retrofit(replace(config, text=(text,), steps=0))
    (text / "3.py").write_text("changed = True\n")
    with pytest.raises(CorruptRunError, match=r"3\.py"):
        resume(config.out)


def test_ctrl_c_leaves_a_run_that_resumes(config: RetrofitConfig):
    class PressesCtrlC:
        def stage(self, what: str) -> None:
            if what == "destination figures":
                raise KeyboardInterrupt

        def track(self, items, total, what, unit):
            yield from items

    with pytest.raises(KeyboardInterrupt):
        retrofit(config, progress=PressesCtrlC())
    assert not (config.out / "result.json").exists()
    assert [item["stage"] for item in RunFolder(config.out).items()][-1] == "heal"
    assert resume(config.out).healing_steps == 4


BAD = {
    "missing text": ({"text": (Path("does-not-exist"),)}, InputError),
    "missing model": ({"model": "does/not/exist"}, JetonError),
    "unknown learner": ({"learner": "extand"}, UnknownMethodError),
    "unknown init": ({"init": "meen"}, UnknownMethodError),
    "unknown healer": ({"heal": "cross"}, UnknownMethodError),
    "unknown drafter": ({"drafter": "prompt_look"}, UnknownMethodError),
    "unknown option": ({"options": {"mean.depth": "3"}}, ConfigError),
    "option of a method not chosen": ({"options": {"alm.tau": "3"}}, ConfigError),
    "vocabulary below the source's": ({"vocab_size": 100}, ConfigError),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_input_is_a_typed_error_and_leaves_nothing(config: RetrofitConfig, name: str):
    changes, error = BAD[name]
    with pytest.raises(error):
        retrofit(replace(config, **changes))
    # A size is judged by the learner, after the run began; it leaves a folder without a result.
    if name != "vocabulary below the source's":
        assert not config.out.exists()
    assert not (config.out / "result.json").exists()
    assert not (config.out / "model").exists()


def test_text_that_is_empty_or_binary_is_refused(config: RetrofitConfig, tmp_path: Path):
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.mkdir()
    binary.mkdir()
    (binary / "x.bin").write_bytes(b"\x00\x01" * 100)
    for folder in (empty, binary):
        with pytest.raises(InputError):
            retrofit(replace(config, text=(folder,)))
    assert not config.out.exists()


@pytest.mark.parametrize(
    "bad", [{"minutes": -1.0}, {"steps": -2}, {"dtype": "int8"}, {"text": ()}, {"threads": -1}]
)
def test_bad_settings_are_refused(config: RetrofitConfig, bad: dict):
    with pytest.raises(ConfigError):
        replace(config, **bad)


def test_a_full_disk_is_a_typed_error_and_the_run_resumes(config: RetrofitConfig):
    """Files may not grow beyond 150 kB: the model cannot be written, smaller files can."""
    from jeton.core.run import to_json

    script = (
        "import sys, json, resource\n"
        "from jeton.errors import DiskFullError\n"
        "from jeton.retrofit.config import RetrofitConfig\n"
        "from jeton.retrofit.pipeline import retrofit\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))\n"
        "try:\n"
        "    retrofit(RetrofitConfig.from_json(json.loads(sys.argv[1])))\n"
        "except DiskFullError as error:\n"
        "    print(error.hint)\n"
        "    sys.exit(2)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, json.dumps(to_json(config))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2, process.stderr
    assert "--resume" in process.stdout
    left = {p.relative_to(config.out).as_posix() for p in config.out.rglob("*")}
    assert not any("partial" in name for name in left), left
    assert "model" not in left
    assert resume(config.out).healing_steps == 4


@pytest.mark.parametrize("num_tokens", [0, 40, 700])
def test_rehearsal_samples_as_much_as_was_asked(num_tokens: int):
    lm = tiny_language_model("llama")
    texts = rehearse(lm, num_tokens=num_tokens, seed=3)
    sampled = sum(len(lm.vocabulary.encode(text)) for text in texts)
    assert sampled <= num_tokens + 255, "a special token ends a row, so there may be fewer"
    assert (sampled > 0) == (num_tokens > 0)
    assert texts == rehearse(lm, num_tokens=num_tokens, seed=3)
    assert num_tokens == 0 or texts != rehearse(lm, num_tokens=num_tokens, seed=4)


def test_a_worse_destination_says_so(config: RetrofitConfig):
    result = retrofit(replace(config, steps=0))
    source, destination = result.source, result.destination
    worse = replace(
        destination,
        bits_per_byte=source.bits_per_byte + 0.1,
        general_bits_per_byte=source.general_bits_per_byte * 1.2,
        bytes_per_token=source.bytes_per_token,
        speed=replace(destination.speed, speculative_bytes_per_second=0.0),
    )
    assert len(regressions(source, worse)) == 4
    fine = replace(source, bytes_per_token=2 * source.bytes_per_token)
    assert regressions(source, fine) == []
