"""The documentation is current and complete."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from jeton.cli.app import app

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
ROOMS = sorted(path.parent.name for path in (REPOSITORY / "src" / "jeton").glob("*/__init__.py"))


def _generate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DOCS / "generate.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_generated_pages_are_current() -> None:
    done = _generate("--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_has_its_page(room: str) -> None:
    page = DOCS / f"{room}.md"
    assert len(page.read_text(encoding="utf-8").split()) > 60
    assert f"(docs/{room}.md)" in (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_every_verb_is_in_the_readme_and_in_the_cli_page() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    page = (DOCS / "cli.md").read_text(encoding="utf-8")
    verbs = list(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert len(verbs) >= 6
    for verb in verbs:
        assert f"`jeton {verb}`" in readme
        assert f"\n## jeton {verb}\n" in page


def test_every_page_is_in_the_navigation() -> None:
    settings = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = set(re.findall(r"'([\w-]+\.md)'", str(settings["nav"])))
    assert listed == {path.name for path in DOCS.glob("*.md")}
    assert settings["theme"]["font"] is False, "pages must not ask other hosts for fonts"


def test_blocks_that_do_not_run_say_why() -> None:
    pages = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *DOCS.glob("*.md")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for reason in re.findall(r"^<!-- not run:?(.*?)-->", text, re.MULTILINE):
            assert len(reason.split()) >= 2, f"{page.name}: {reason!r} is no reason"


def test_readme_names_both_commands_and_the_licence() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    for words in ("make demo", "make test", "jeton retrofit", "Apache-2.0"):
        assert words in readme
