"""The house rules that a linter does not know."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jeton

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "src" / "jeton"
SOURCES = sorted(PACKAGE.rglob("*.py"))
MAX_LINES = 450
_HEAVY = ("torch", "transformers")


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_file_is_short_enough_to_be_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def _undocumented(path: Path) -> list[str]:
    """Return the public modules, classes and functions of a file without a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    missing = [] if ast.get_docstring(tree) else [_name(path)]
    waiting: list[tuple[str, ast.AST]] = [("", tree)]
    while waiting:
        prefix, parent = waiting.pop()
        for node in ast.iter_child_nodes(parent):
            if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if node.name.startswith("_"):
                continue
            if not ast.get_docstring(node):
                missing.append(f"{_name(path)}:{node.lineno} {prefix}{node.name}")
            if isinstance(node, ast.ClassDef):  # functions inside of functions are private
                waiting.append((f"{node.name}.", node))
    return missing


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_everything_public_has_a_docstring(path: Path) -> None:
    assert _undocumented(path) == []


def test_the_docstring_check_finds_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    file = tmp_path / "bare.py"
    file.write_text("class A:\n    def shown(self): ...\n    def _hidden(self): ...\n")
    assert _undocumented(file) == ["bare.py", "bare.py:1 A", "bare.py:2 A.shown"]


def _project_files() -> list[Path]:
    """Return the text files of the project, not those that a build or a run left."""
    folders = ("src", "tests", "docs", "bench", "recipes", ".ci")
    # In a work tree of git, .git is a file that names a folder of the machine.
    found = [path for path in REPOSITORY.iterdir() if path.is_file() and path.name != ".git"]
    for folder in folders:
        found += (path for path in (REPOSITORY / folder).rglob("*") if path.is_file())
    return [path for path in found if "__pycache__" not in path.parts]


def test_no_path_of_somebodys_machine() -> None:
    # Put together here, so that this file is no finding of its own.
    home = re.compile(rb"(?<![\w.])/(?:" + b"|".join([b"home/[a-z]", b"Users/[A-Za-z]"]) + rb")")
    places = re.compile(rb"(?<![\w.])/(?:root|work|tmp/dev)/")
    found = []
    for path in _project_files():
        content = path.read_bytes()
        if b"\0" not in content and (home.search(content) or places.search(content)):
            found.append(path.relative_to(REPOSITORY).as_posix())
    assert found == []


@pytest.mark.parametrize("name", jeton.__all__)
def test_public_name_resolves(name: str) -> None:
    assert getattr(jeton, name) is not None
    assert name in dir(jeton)


@pytest.fixture(scope="module")
def hidden_names() -> list[str]:
    """Public names that stand for something else once all of their modules are imported."""
    program = (
        "import jeton, importlib\n"
        "right = {name: getattr(importlib.import_module(module), name)\n"
        "         for name, module in jeton._LAZY.items()}\n"
        "print(*(name for name in right if getattr(jeton, name) is not right[name]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    "name",
    [name for name in jeton.__all__ if name != "__version__"],
)
def test_public_name_stays_what_it_is_after_its_module_is_imported(
    name: str, hidden_names: list[str]
) -> None:
    assert name not in hidden_names


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = jeton.no_such_name


@pytest.mark.parametrize(
    "code",
    [
        "import jeton",
        "import jeton.cli",
        "import jeton.report.catalogue",
        "from jeton import load_vocabulary, Vocabulary, JetonError",
        "import jeton.retrofit.config",
        "import jeton.report.html",
    ],
)
def test_import_loads_neither_torch_nor_transformers(code: str) -> None:
    _run_without_heavy(code)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["methods"], ["retrofit", "-h"]])
def test_command_loads_neither_torch_nor_transformers(arguments: list[str]) -> None:
    _run_without_heavy(
        "from jeton.cli import main\n"
        f"sys.argv = ['jeton', *{arguments!r}]\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code"
    )


def _run_without_heavy(code: str) -> None:
    program = f"import sys\n{code}\nprint([m for m in {_HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
