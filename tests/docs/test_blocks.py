"""Every code block of the README and of docs/ runs, in order, one namespace per page.

A block that would take minutes or change the machine stands behind `<!-- not run: reason -->`.
Retrofits are run with one step of healing, little text and small figures of speed.
"""

import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jeton.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: ([^>]+) -->\n\Z")
_SHELL, _SHOWN = ("sh", "bash", "shell", "console"), ("text", "json", "toml", "yaml", "html")
_SHORT_RETROFIT = ["--steps", "1", "--verify-bytes", "2000", "--set", "cross_entropy.length=64"]
_SHORT_RETROFIT += ["--set", "cross_entropy.batch_tokens=128"]


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    content: str
    line: int
    not_run: str


def blocks_of(text: str) -> Iterator[Block]:
    """Yield the fenced blocks of a page."""
    for found in _FENCE.finditer(text):
        marked = _NOT_RUN.search(text, 0, found.start())
        line = text.count("\n", 0, found.start()) + 1
        yield Block(found[1], found[2], line, marked[1] if marked else "")


def commands_of(block: str) -> list[str]:
    """Return the commands of a shell block without comments and prompts."""
    lines = block.replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ").strip() for line in lines if shlex.split(line, comments=True)]


def run_command(command: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run one command: `jeton` in this process, `python -c` in another; pipes feed stdin."""
    *before, last = (part.strip() for part in re.split(r"\s\|\s", command))
    given = b""
    for part in before:
        done = subprocess.run(shlex.split(part), input=given, capture_output=True, check=True)
        given = done.stdout
    words = shlex.split(last, comments=True)
    if words[0] == "python":
        return subprocess.run([sys.executable, *words[1:]], input=given, check=False).returncode
    assert words[0] == "jeton", f"{words[0]!r} is no command that the documentation tests run"
    if words[1] == "retrofit" and "--resume" not in words:
        words += _SHORT_RETROFIT
    if words[1] in ("transfer", "extend", "prune", "distill") and "--resume" not in words:
        words += ["--verify-bytes", "2000"]
        words += [] if "--steps" in words else ["--steps", "1"]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_of_a_page_run(
    page: Path, world: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"__name__": "__docs__"}
    for block in blocks_of(page.read_text(encoding="utf-8")):
        where = f"{page.name}, line {block.line}"
        if block.not_run:
            continue
        if block.language == "python":
            exec(compile(block.content, where, "exec"), names)
        elif block.language in _SHELL:
            for command in commands_of(block.content):
                code = run_command(command, monkeypatch)
                assert code == 0, (
                    f"{where}: {command!r} ended with {code}\n{capfd.readouterr().err}"
                )
        else:
            assert block.language in _SHOWN, f"{where}: say what language this block is in"
            if block.language == "json":
                json.loads(block.content)


def test_a_failing_block_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_command("jeton methods --room nonsense", monkeypatch) == 2
    assert run_command("python -c 'raise SystemExit(3)'", monkeypatch) == 3
    with pytest.raises(AssertionError, match="rm"):
        run_command("rm -r out", monkeypatch)


def test_blocks_are_found_with_their_marks() -> None:
    text = "a\n```sh\njeton x\n```\n\n<!-- not run: takes minutes -->\n```python\n1\n```\n"
    found = list(blocks_of(text))
    assert [(b.language, b.line, b.not_run) for b in found] == [
        ("sh", 2, ""),
        ("python", 7, "takes minutes"),
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(_FENCE, "", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "#")):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
            assert anchor in anchors, f"{page.name} links to {target}"
