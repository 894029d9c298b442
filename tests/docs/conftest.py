"""The world that the examples of the documentation live in: a model, some text, a few files."""

import shutil
from pathlib import Path

import pytest

from jeton.core.vocabulary import load_vocabulary
from jeton.starter import starter_path

_FUNCTION = '''def total_{i}(table, column):
    """Return the sum of a column of a table."""
    result = 0
    for row in table:
        result += row[column]
    return result * {i}


'''
_PROSE = "The ferry left the mainland at a quarter past six, when the harbour was still grey.\n"


def _write_text(folder: Path) -> None:
    """Write twenty-odd short documents, so that a tenth of them can be held out."""
    folder.mkdir()
    (folder / "table.py").write_text("".join(_FUNCTION.format(i=i) for i in range(4)))
    for number in range(24):
        (folder / f"part_{number:02d}.py").write_text(_FUNCTION.format(i=number + 5))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of a user: a copy of the starter model."""
    folder = tmp_path_factory.mktemp("model") / "my-model"
    shutil.copytree(starter_path("starter"), folder)
    return folder


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """A folder with everything that the examples name; tests work on copies of it."""
    world = tmp_path_factory.mktemp("docs") / "world"
    world.mkdir()
    _write_text(world / "my-text")
    for name in ("src", "corpus"):
        shutil.copytree(world / "my-text", world / name)
    (world / "udhr").mkdir()
    for name in ("eng", "fra"):
        (world / "udhr" / f"{name}.txt").write_text(_PROSE * 8)
    for name in ("book.txt", "notes.md", "wiki.txt", "prompt.txt"):
        (world / name).write_text(_PROSE * 40)
    (world / "prompt.txt").write_text(_PROSE)
    (world / "corpus.jsonl").write_text(
        "".join('{"text": "%s"}\n' % (_PROSE.strip() * 4) for _ in range(30))
    )
    for name in ("tokenizer", "gpt2", "qwen", "path/to/model"):  # tokenizers alone
        (world / name).mkdir(parents=True)
        shutil.copyfile(model_folder / "tokenizer.json", world / name / "tokenizer.json")
    assert load_vocabulary(world / "tokenizer").vocab_size > 0
    return world


@pytest.fixture
def world(
    tmp_path: Path, prepared: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The working directory of one page: a fresh copy of the prepared folder."""
    folder = tmp_path / "world"
    shutil.copytree(prepared, folder)
    for name in ("my-model", "model"):
        shutil.copytree(model_folder, folder / name)
    monkeypatch.chdir(folder)
    return folder
