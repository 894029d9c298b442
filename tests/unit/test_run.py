"""Run folders, atomic writes, registries."""

import errno
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from jeton.core.registry import Paper, Registry, Row, Verification
from jeton.core.run import (
    RunFolder,
    deferred_interrupt,
    disk_errors,
    hash_file,
    to_json,
    write_atomically,
)
from jeton.errors import ConfigError, CorruptRunError, DiskFullError, UnknownMethodError


def test_a_run_keeps_its_items_and_its_result(tmp_path: Path):
    folder = RunFolder.create(tmp_path / "run", {"steps": 3}, {"a.txt": "00"})
    folder.append({"stage": "one", "outcome": 1.5})
    folder.append({"stage": "two", "outcome": b"\xff"})
    again = RunFolder.resume(tmp_path / "run")
    assert [item["stage"] for item in again.items()] == ["one", "two"]
    assert again.document()["config"] == {"steps": 3}
    assert not again.is_finished
    again.finish({"x": 1})
    assert json.loads((tmp_path / "run/result.json").read_text()) == {"x": 1}
    assert again.is_finished


def test_a_line_cut_by_a_kill_is_dropped_and_the_run_goes_on(tmp_path: Path):
    folder = RunFolder.create(tmp_path / "run", {}, {})
    folder.append({"stage": "one"})
    with (folder.path / "items.jsonl").open("a") as file:
        file.write('{"stage": "tw')
    assert folder.items() == [{"stage": "one"}]
    folder.append({"stage": "two"})
    assert folder.items() == [{"stage": "one"}, {"stage": "two"}]


def test_a_damaged_line_in_the_middle_is_an_error(tmp_path: Path):
    folder = RunFolder.create(tmp_path / "run", {}, {})
    (folder.path / "items.jsonl").write_text('{"a": \n{"b": 1}\n')
    with pytest.raises(CorruptRunError, match="line 1"):
        folder.items()


def test_an_out_folder_with_files_is_refused_and_not_touched(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not an empty folder"):
        RunFolder.create(tmp_path, {}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_an_unfinished_run_is_offered_for_resuming(tmp_path: Path):
    RunFolder.create(tmp_path / "run", {}, {})
    with pytest.raises(ConfigError) as caught:
        RunFolder.create(tmp_path / "run", {}, {})
    assert "--resume" in (caught.value.hint or "")


@pytest.mark.parametrize("content", ["", "[]", '{"config": {', '{"schema_version": 99}'])
def test_a_damaged_run_json_is_an_error(tmp_path: Path, content: str):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(CorruptRunError):
        RunFolder.resume(tmp_path)


def test_no_run_is_an_error(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no run\.json"):
        RunFolder.resume(tmp_path)


def test_changed_inputs_are_named(tmp_path: Path):
    folder = RunFolder.create(tmp_path / "run", {}, {"a": "1", "b": "2"})
    folder.check_unchanged({"a": "1", "b": "2"})
    with pytest.raises(CorruptRunError, match="b, c"):
        folder.check_unchanged({"a": "1", "b": "3", "c": "4"})


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path):
    target = tmp_path / "x.json"
    target.write_text("old")
    with pytest.raises(TypeError):
        write_atomically(target, 5)  # type: ignore[arg-type]
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EFBIG])
def test_a_full_disk_is_a_typed_error(tmp_path: Path, number: int):
    with pytest.raises(DiskFullError) as caught, disk_errors(tmp_path / "x"):
        raise OSError(number, os.strerror(number))
    assert caught.value.hint
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path / "x"):
        raise FileNotFoundError(errno.ENOENT, "gone")


def test_ctrl_c_waits_for_a_good_place(tmp_path: Path):
    reached = False
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), deferred_interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        reached = True
        interrupt.raise_if_requested()
    assert reached
    assert signal.getsignal(signal.SIGINT) is before


def test_hash_is_sha256(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"abc")
    assert hash_file(tmp_path / "x").startswith("ba7816bf8f01cfea")


def test_to_json_knows_our_kinds():
    @dataclass
    class Point:
        x: int
        where: Path

    assert to_json({"p": Point(1, Path("a")), "v": Verification.EXACT, "b": (b"a",)}) == {
        "p": {"x": 1, "where": "a"},
        "v": "verified-exact",
        "b": ["a"],
    }


@dataclass(frozen=True)
class Method:
    share: float = 0.5
    count: int = 1
    flag: bool = False


def registry() -> Registry:
    import sys

    sys.modules.setdefault("jeton_test_methods", sys.modules[__name__])
    return Registry(
        "family",
        {
            "method": Row(
                "jeton_test_methods:Method",
                "",
                Paper("p", 2020, "https://example.org"),
                Verification.EXACT,
                "here",
                "none",
            )
        },
    )


def test_options_take_the_types_of_their_fields():
    made = registry().create("method", {"share": "0.25", "count": "3", "flag": "true"})
    assert (made.share, made.count, made.flag) == (0.25, 3, True)


@pytest.mark.parametrize("bad", [{"count": "x"}, {"flag": "maybe"}, {"shar": "1"}])
def test_bad_options_are_named(bad: dict):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        registry().create("method", bad)


def test_unknown_methods_offer_near_names():
    with pytest.raises(UnknownMethodError) as caught:
        registry().create("methid")
    assert caught.value.hint == "did you mean method?"
