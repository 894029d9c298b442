"""The command line: help with examples, errors with hints and exit codes, JSON, completion."""

import dataclasses
import importlib
import inspect
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jeton.cli import moves
from jeton.retrofit.config import JobConfig, RetrofitConfig
from jeton.retrofit.moves.config import MoveConfig

MOVES = ("transfer", "extend", "prune", "distill")
JOBS = ("retrofit", *MOVES)
VERBS = (
    *JOBS,
    "hypernetwork",
    "dynamic",
    "audit",
    "atlas",
    "score",
    "sinks",
    "generate",
    "tune-decoding",
    "draft",
    "ensemble",
    "methods",
    "demo",
)
Jeton = Callable[..., Any]


@pytest.fixture
def prose(tmp_path: Path) -> Path:
    """A short text."""
    path = tmp_path / "prose.txt"
    path.write_text("The ferry left at a quarter past six.\n" * 3, encoding="utf-8")
    return path


def test_help_names_every_verb(jeton: Jeton) -> None:
    found = jeton("--help")
    assert found.code == 0
    for verb in VERBS:
        assert re.search(rf"\b{verb}\b", found.out)
    assert "--install-completion" in found.out


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_has_an_example(jeton: Jeton, verb: str) -> None:
    for flag in ("--help", "-h"):
        found = jeton(verb, flag)
        assert found.code == 0
        assert "Example" in found.out
        assert f"jeton {verb}" in found.out.partition("Example")[2]


def test_no_arguments_show_the_help(jeton: Jeton) -> None:
    found = jeton()
    assert found.code == 2
    assert "Usage: jeton" in found.out


def test_version(jeton: Jeton) -> None:
    found = jeton("--version")
    assert (found.code, found.out) == (0, "jeton 0.1.0\n")


MISTAKES = {
    "unknown verb": (["retrofti"], "'retrofti'", "jeton --help"),
    "typo in a flag": (["score", "starter", "--txt", "a"], "--text", "jeton score --help"),
    "missing argument": (["score"], "model", "jeton score --help"),
    "not a number": (["score", "starter", "--stride", "x"], "--stride", "jeton score --help"),
    "a lone model": (["ensemble", "starter", "--prompt", "a"], "two or more", "MODEL MODEL"),
    "unknown measure": (
        ["score", "starter", "--text", "{prose}", "--measure", "x"],
        "measure must be",
        "--measure",
    ),
    "missing text": (["score", "starter", "--text", "no/where"], "no/where", "check the path"),
    "missing model": (["score", "./no-model", "--text", "{prose}"], "no-model", "check the path"),
    "missing tokenizer": (["audit", "./no-tokenizer", "--text", "{prose}"], "no-tokenizer", "hint"),
    "unknown drafter": (
        ["generate", "starter", "-p", "a", "--drafter", "prompt_lokup"],
        "'prompt_lokup'",
        "did you mean prompt_lookup",
    ),
    "unknown verifier": (
        ["generate", "starter", "-p", "a", "--verifier", "gredy"],
        "'gredy'",
        "did you mean greedy",
    ),
    "empty stop": (["generate", "starter", "-p", "a", "--stop", ""], "stop string", "leave it out"),
    "top_p of 0": (
        ["generate", "starter", "-p", "a", "--temperature", "1", "--top-p", "0"],
        "top_p must be in (0, 1]",
        "leave it out for 1.0",
    ),
    "superposed with a drafter": (
        ["generate", "starter", "-p", "a", "--superpose", "2", "--drafter", "auto"],
        "superposed",
        "leave out --superpose",
    ),
    "unknown policy": (
        ["generate", "starter", "-p", "a", "--kv", "snapvk"],
        "'snapvk'",
        "did you mean snapkv",
    ),
    "budget alone": (
        ["generate", "starter", "-p", "a", "--budget", "64"],
        "--budget is given without --kv",
        "--kv",
    ),
    "budget too small": (
        ["generate", "starter", "-p", "a", "--kv", "snapkv", "--budget", "10"],
        "budget of 10 tokens",
        "",
    ),
    "unknown bench": (["bench", "kvv"], "'kvv'", "take kv"),
    "unknown policy to bench": (
        ["bench", "kv", "--policies", "h20"],
        "'h20'",
        "did you mean h2o",
    ),
    "part above 1": (["bench", "kv", "--keep", "2"], "--keep takes parts", "0.25"),
    "no contexts": (
        ["bench", "kv", "--policies", "knorm", "--contexts", "0", "--no-text"],
        "at least 1 context",
        "take 8",
    ),
    "no peer": (
        ["bench", "kv", "--policies", "knorm", "--peer", "no/python"],
        "no/python cannot be run",
        "pip install",
    ),
    "no sinks": (["sinks", "starter", "--text", "{prose}", "--sinks", "0"], "0 sinks", ""),
    "no tuning": (
        ["generate", "starter", "-p", "a", "--config", "{prose}"],
        "no tuning file",
        "jeton tune-decoding",
    ),
    "no tuning for retrofit": (
        ["retrofit", "starter", "--text", "{prose}", "--out", "o", "--drafter", "no.json"],
        "no.json is no tuning file",
        "jeton tune-decoding",
    ),
    "no workload": (
        ["tune-decoding", "starter", "--prompts", "no.jsonl"],
        "no.jsonl cannot be read",
        "",
    ),
    "unknown drafter to tune": (
        ["tune-decoding", "starter", "--prompts", "{prose}", "--drafters", "lokahead"],
        "'lokahead'",
        "did you mean lookahead",
    ),
    "unknown family": (["methods", "--room", "draftrs"], "'draftrs'", "did you mean drafters"),
    "unknown metric": (
        ["audit", "starter", "--text", "{prose}", "--metric", "fertilty"],
        "'fertilty'",
        "did you mean fertility",
    ),
    "premium without parallel text": (
        ["audit", "starter", "--text", "{prose}", "--metric=dead", "--fail-on", "premium>3"],
        "premium>3 cannot be checked",
        "--metric",
    ),
    "atlas without text": (["atlas", "starter"], "parallel text", "--parallel DIR"),
    "unknown learner": (
        ["retrofit", "starter", "--text", "{prose}", "--out", "o", "--learner", "extnd"],
        "'extnd'",
        "did you mean extend",
    ),
    "unknown option of a method": (
        ["retrofit", "starter", "--text={prose}", "--out=o", "--set=cross_entropy.lr_boddy=1"],
        "'lr_boddy'",
        "did you mean lr_body",
    ),
    "malformed --set": (
        ["retrofit", "starter", "--text", "{prose}", "--out", "o", "--set", "lr=1"],
        "method.field=value",
        "--set cross_entropy",
    ),
    "no model": (["retrofit"], "no model", "--text DIR --out DIR"),
    "no text": (["retrofit", "starter", "--out", "o"], "no text", "--text"),
    "no out": (["retrofit", "starter", "--text", "{prose}"], "no --out", "add --out"),
    "nothing to resume": (["retrofit", "--resume", "."], "run.json", "earlier run"),
    "empty prompt": (["generate", "starter", "-p", ""], "prompt is empty", "--prompt"),
    "no destination": (
        ["transfer", "starter", "--text", "{prose}", "--out", "o"],
        "needs a destination",
        "--to",
    ),
    "missing destination": (
        ["transfer", "starter", "--text", "{prose}", "--out", "o", "--to", "byts"],
        "byts",
        "'bytes'",
    ),
    "unknown recipe": (
        ["transfer", "starter", "--text", "{prose}", "--out", "o", "--recipe", "chocolama"],
        "'chocolama'",
        "did you mean chocollama",
    ),
    "no teacher": (["distill", "--text", "{prose}", "--out", "o"], "no model", "TEACHER STUDENT"),
    "no student": (["distill", "starter", "--out", "o"], "no model", "jeton distill"),
    "unknown healer": (
        ["extend", "starter", "--text", "{prose}", "--out", "o", "--heal", "almm"],
        "'almm'",
        "did you mean alm",
    ),
    "option of another method": (
        ["prune", "starter", "--text", "{prose}", "--out", "o", "--set", "alm.tau=1"],
        "alm.tau",
        "hint",
    ),
    "bad condition": (
        ["audit", "starter", "--text", "{prose}", "--fail-on", "dead=0"],
        "'dead=0'",
        "hint",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistake_ends_with_code_2_a_message_and_a_hint(
    jeton: Jeton, prose: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    arguments, message, hint = MISTAKES[case]
    monkeypatch.chdir(prose.parent)
    found = jeton(*(argument.format(prose=prose) for argument in arguments))
    assert found.code == 2, found.err
    assert found.out == "", "stdout belongs to results"
    assert "Traceback" not in found.err
    first, _, rest = found.err.partition("\nhint: ")
    assert first.startswith("error: ")
    assert message in first
    assert hint in "hint: " + rest
    left = [path.name for path in prose.parent.iterdir()]
    assert left == [prose.name], "nothing is left behind"


def test_a_folder_that_exists_is_not_written_to(jeton: Jeton, prose: Path) -> None:
    prose.write_text("The ferry left at a quarter past six.\n" * 200, encoding="utf-8")
    found = jeton("retrofit", "starter", "--text", str(prose), "--out", str(prose.parent))
    assert found.code == 2
    assert "already exists" in found.err
    assert [path.name for path in prose.parent.iterdir()] == [prose.name]


def test_failed_condition_ends_with_code_3(jeton: Jeton, prose: Path) -> None:
    asked = ["audit", "starter", "--text", str(prose), "--metric", "bytes_per_token", "-q"]
    assert jeton(*asked, "--fail-on", "bytes_per_token<0.5").code == 0
    found = jeton(*asked, "--fail-on", "bytes_per_token<100")
    assert found.code == 3
    assert "bytes_per_token<100" in found.err


JSON = {
    "methods": ["methods", "--json"],
    "methods of a family": ["methods", "--room", "learn", "--json"],
    "audit": ["audit", "starter", "--text", "{prose}", "--json"],
    "score": ["score", "starter", "--text", "{prose}", "--json"],
    "score in bytes": ["score", "starter", "--text", "{prose}", "--measure", "canonical", "--json"],
    "exact prompt": ["generate", "starter", "-p", "def f", "--exact-prompt", "-n", "4", "--json"],
    "ensemble": ["ensemble", "starter", "starter-draft", "--text", "{prose}", "--json"],
    "score cuts": [
        *("score", "starter", "--text", "{prose}"),
        *("--measure", "canonical", "--cuts", "4", "--json"),
    ],
    "score stdin": ["score", "starter", "--text", "-", "--json"],
    "generate": ["generate", "starter", "-p", "def f(", "-n", "4", "--json"],
    "generate stdin": ["generate", "starter", "-p", "-", "-n", "4", "--stats", "--json"],
}


@pytest.mark.parametrize("case", JSON)
def test_json_is_exactly_one_document(jeton: Jeton, prose: Path, case: str) -> None:
    arguments = [argument.format(prose=prose) for argument in JSON[case]]
    found = jeton(*arguments, stdin=b"The ferry left")
    assert found.code == 0, found.err
    document = json.loads(found.out)  # fails on two documents, or on a line beside it
    assert isinstance(document, dict)
    assert found.out.endswith("}\n")
    assert isinstance(document["schema_version"], int)


def test_drafter_changes_nothing_on_stdout(jeton: Jeton) -> None:
    asked = ["generate", "starter", "-p", "import os\nimport sys\n", "-n", "24"]
    asked += ["--dtype", "float32"]
    plain = jeton(*asked)
    drafted = jeton(*asked, "--drafter", "prompt_lookup", "--stats")
    assert plain.code == drafted.code == 0
    assert plain.out == drafted.out
    assert plain.out.startswith("import os\nimport sys\n")
    assert "per step" in drafted.err


def test_a_stop_string_and_ctrl_c_keep_what_was_written(
    jeton: Jeton, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ["generate", "starter", "-p", "import os\nimport sys\n", "-n", "24"]
    whole = json.loads(jeton(*asked, "--json").out)["text"]
    stop = whole[9:12]
    stopped = json.loads(jeton(*asked, "--stop", stop, "--json").out)
    assert stopped["text"] == whole[: whole.index(stop)]
    assert stopped["finish_reason"] == "stop_string"

    def press(step: object, new: object, rows: object) -> None:
        if len(seen) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        seen.append(new)

    seen: list[object] = []
    monkeypatch.setattr("jeton.decoding.trace.Trace.__call__", lambda self, *step: press(*step))
    cut = jeton(*asked)
    assert cut.code == 130
    assert cut.out.startswith("import os\nimport sys\n" + whole[:3])
    assert len(cut.out) < len(whole) + 10
    assert "interrupted" in cut.err


def test_tuning_is_written_and_read(jeton: Jeton, prose: Path, tmp_path: Path) -> None:
    written = tmp_path / "decoding.json"
    asked = ["tune-decoding", "starter", "--prompts", str(prose), "--rounds", "1", "-n", "6"]
    asked += ["--drafters", "lookahead", "--lengths", "4", "--out", str(written), "--json"]
    found = json.loads(jeton(*asked).out)
    assert {row["drafter"] for row in found["rows"]} == {"none", "lookahead"}
    used = jeton("generate", "starter", "-p", "a b a b", "-n", "4", f"--config={written}", "--json")
    assert json.loads(used.out)["drafter"] == found["rows"][0]["drafter"]


@pytest.mark.parametrize("verb", JOBS)
def test_flags_of_a_job_are_fields_of_its_config(verb: str) -> None:
    module = importlib.import_module(f"jeton.cli.{verb}")
    flags = dict(inspect.signature(getattr(module, verb)).parameters)
    for name in moves.CALL:
        flags.pop(name)
    kind = RetrofitConfig if verb == "retrofit" else MoveConfig
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if verb == "retrofit":
        assert set(flags) == set(fields)
    documented = (inspect.getdoc(JobConfig) or "") + (inspect.getdoc(kind) or "")
    for name, parameter in flags.items():
        assert parameter.default.help, f"--{name} has no help"
        assert f"\n    {name}: " in documented
        default, given = fields[name].default, parameter.default.default
        if default is dataclasses.MISSING:  # required, or a new container
            assert given in ("", [], None)
        else:
            assert (tuple(given) if isinstance(given, list) else given) == default, name


def test_every_field_of_a_move_is_a_flag_of_some_verb() -> None:
    flags = {"verb"}
    for verb in MOVES:
        module = importlib.import_module(f"jeton.cli.{verb}")
        flags |= set(inspect.signature(getattr(module, verb)).parameters)
    assert flags - set(moves.CALL) == {field.name for field in dataclasses.fields(MoveConfig)}


def test_completion_offers_the_verbs() -> None:
    found = _completed("jeton ret", 1)
    assert found.split() == ["retrofit"]
    assert "--drafter" in _completed("jeton generate --dra", 2)


def _completed(words: str, index: int) -> str:
    environment = {
        **os.environ,
        "_JETON_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(index),
    }
    program = "from jeton.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_reader_that_has_gone_is_no_traceback() -> None:
    program = "import sys; sys.argv = ['jeton', 'methods', '--json']\n"
    program += "from jeton.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 1
    assert errors == ""


def test_generate_under_a_policy(jeton: Jeton) -> None:
    options = ["starter", "-p", "import os\n" * 8, "--max-new-tokens", "8"]
    plain = jeton("generate", *options)
    policy = ["--kv", "tokenselect", "--budget", "1024"]
    for drafter in ([], ["--drafter", "prompt_lookup"]):
        found = jeton("generate", *options, *policy, *drafter)
        assert found.code == 0, found.err
        assert found.out.splitlines()[0] == plain.out.splitlines()[0]


def test_dynamic_prints_what_joined_tokens_save(jeton: Jeton, prose: Path) -> None:
    prose.write_text("The ferry left at a quarter past six. It had rained.\n" * 9, "utf-8")
    asked = ["dynamic", "starter", "--text", str(prose), "--read", "60", "--scored", "10", "-q"]
    found = jeton(
        *asked, "--merges", "0", "--merges", "9", "--set", "dynamic.keep_last=5", "--json"
    )
    assert found.code == 0, found.err
    none, some = json.loads(found.out)["points"]
    assert none["reduction"] == 0 and none["cosine"] == pytest.approx(1)
    assert 0.1 < some["reduction"] < 0.9 and some["bits_per_byte"] > none["bits_per_byte"]
    plain = jeton(*asked, "--network", "mean", "--merges", "9")
    assert plain.code == 0 and "tokens saved" in plain.out
    missing = jeton("dynamic", "starter-draft", "--text", str(prose))
    assert missing.code == 2 and "jeton hypernetwork" in missing.err
