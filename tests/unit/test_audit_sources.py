"""Evidence read from files."""

from pathlib import Path

import pytest

from jeton.audit.sources import read_groups, read_lexicon, read_parallel, read_segmentation
from jeton.errors import InputError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_parallel_text_is_read_line_by_line_by_language(tmp_path: Path) -> None:
    write(tmp_path / "eng.txt", "one\n\nthree\n")
    write(tmp_path / "fra.txt", "un\ndeux\ntrois")
    write(tmp_path / "README.md", "not a language")
    assert read_parallel(tmp_path) == {"eng": ["one", "", "three"], "fra": ["un", "deux", "trois"]}


def test_files_of_different_length_are_refused_by_name(tmp_path: Path) -> None:
    for name in ("eng", "fra"):
        write(tmp_path / f"{name}.txt", "a\nb\n")
    write(tmp_path / "deu.txt", "a\n")
    with pytest.raises(InputError, match="most have 2 lines, but deu 1"):
        read_parallel(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe"])
def test_parallel_text_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError):
        read_parallel(tmp_path / "missing")
    (tmp_path / "eng.txt").write_bytes(content)
    with pytest.raises(InputError):
        read_parallel(tmp_path)
    (tmp_path / "fra.txt").write_bytes(content)
    with pytest.raises(InputError):
        read_parallel(tmp_path)


def test_lexicon_takes_the_first_field(tmp_path: Path) -> None:
    words = write(tmp_path / "words", "cat\tnoun\n\ndog\n")
    parts = write(tmp_path / "parts", "s\n")
    found = read_lexicon(words, parts)
    assert (found.words, found.morphemes) == ({"cat", "dog"}, {"s"})
    with pytest.raises(InputError, match="no words"):
        read_lexicon(write(tmp_path / "none", "\n"))


def test_segmentation_keeps_surface_morphemes_only(tmp_path: Path) -> None:
    lines = "cats\tcat @@s\t100\nran\trun @@ed\t100\nredo\tre do\n"
    path = write(tmp_path / "gold.tsv", lines)
    assert read_segmentation(path) == {"cats": ("cat", "s"), "redo": ("re", "do")}
    with pytest.raises(InputError, match="add up"):
        read_segmentation(write(tmp_path / "bad.tsv", "ran\trun ed\n"))


def test_several_paths_are_groups(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.txt", "a"), write(tmp_path / "two.txt", "b")
    assert read_groups([one], 99) == {"text": ["a"]}
    assert read_groups([one, two], 99) == {"one.txt": ["a"], "two.txt": ["b"]}
