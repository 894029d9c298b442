import gzip
import hashlib
import os
from pathlib import Path

import pytest

from jeton.core.texts import TextCollection, read_texts
from jeton.errors import InputError, MissingExtraError


def write(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def test_documents_are_whole_and_sorted(tmp_path: Path) -> None:
    write(tmp_path, b_DOT_txt="x\r\ny\n\n\n", a__z_DOT_py="  1\n", a__b_DOT_md="#")
    texts = read_texts(tmp_path)
    assert [(d.name, d.text) for d in texts.documents()] == [
        ("a/b.md", "#"),
        ("a/z.py", "  1\n"),
        ("b.txt", "x\r\ny\n\n\n"),
    ]
    assert list(texts) == list(texts)
    assert texts.num_bytes() == 1 + 4 + 7
    assert texts.hashes()["a/b.md"] == hashlib.sha256(b"#").hexdigest()


def test_json_lines_and_packed_files(tmp_path: Path) -> None:
    lines = '{"text": "one\\n", "n": 1}\n\n{"text": "two"}\n'
    write(tmp_path, a_DOT_jsonl=lines, b_DOT_txt_DOT_gz=gzip.compress(b"three"))
    assert list(read_texts(tmp_path)) == ["one\n", "two", "three"]
    with pytest.raises(InputError, match=r"line 1.*'body'; it has: text, n"):
        list(read_texts(tmp_path / "a.jsonl", field="body"))
    write(tmp_path, bad_DOT_jsonl='{"text": 1}\n')
    with pytest.raises(InputError, match="no text field"):
        read_texts(tmp_path / "bad.jsonl")
    write(tmp_path, bad_DOT_jsonl="{")
    with pytest.raises(InputError, match="line 1, is not JSON"):
        read_texts(tmp_path / "bad.jsonl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ab\0c", "byte 2 is NUL"),
        ("naïve".encode("latin-1"), "not UTF-8: byte 2 is 0xef"),
        (b"x" * (1 << 20) + b"\xc3", "ends inside a character at byte 1048577"),
        (b"x" * ((1 << 20) - 1) + b"\xc3(", "byte 1048575 is 0xc3"),
        ("hi".encode("utf-16"), "UTF-16"),
    ],
)
def test_a_file_that_is_no_text(tmp_path: Path, content: bytes, message: str) -> None:
    write(tmp_path, a_DOT_txt=content)
    with pytest.raises(InputError, match=message) as caught:
        read_texts(tmp_path / "a.txt")
    assert caught.value.hint
    with pytest.raises(InputError, match="holds no text files; skipped 1"):
        read_texts(tmp_path)
    write(tmp_path, b_DOT_txt="fine")
    with pytest.warns(UserWarning, match="skipped 1 files"):
        texts = read_texts(tmp_path)
    assert list(texts) == ["fine"] and texts.skipped[0][0] == "a.txt"


def test_bad_paths(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_texts(tmp_path / "none")
    with pytest.raises(InputError, match="no text files"):
        read_texts(tmp_path)
    with pytest.raises(InputError, match="no text was given"):
        read_texts([])
    write(tmp_path, a_DOT_txt="")
    with pytest.raises(InputError, match="every file is empty"):
        read_texts(tmp_path)
    write(tmp_path, a_DOT_txt_DOT_gz=b"not gzip")
    with pytest.raises(InputError, match="damaged"):
        read_texts(tmp_path / "a.txt.gz")
    write(tmp_path, a_DOT_txt_DOT_gz=gzip.compress(b"x" * 100)[:-10])
    with pytest.raises(InputError, match="damaged"):
        read_texts(tmp_path / "a.txt.gz")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    write(tmp_path, a_DOT_txt="x")
    (tmp_path / "a.txt").chmod(0)
    with pytest.raises(InputError, match="cannot be read"):
        read_texts(tmp_path / "a.txt")


def test_limit_cuts_between_characters(tmp_path: Path) -> None:
    write(tmp_path, a_DOT_txt="éé", b_DOT_txt="xyz")
    assert list(read_texts(tmp_path, limit_bytes=3)) == ["é"]
    assert list(read_texts(tmp_path, limit_bytes=5)) == ["éé", "x"]


def test_large_files_are_cut_after_a_line_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jeton.core.text_files.MAX_DOCUMENT_BYTES", 10)
    write(tmp_path, a_DOT_txt="line\nline two\n" + "é" * 12)
    pieces = list(read_texts(tmp_path))
    assert "".join(pieces) == "line\nline two\n" + "é" * 12
    assert pieces[:2] == ["line\n", "line two\n"]


def test_split_follows_the_hash_of_the_name(tmp_path: Path) -> None:
    write(tmp_path, **{f"f{i}_DOT_txt": f"text {i}" for i in range(60)})
    train, held_out, shares = read_texts(tmp_path).split(0.1)
    held = {document.name for document in held_out.documents()}
    expected = {
        f"f{i}.txt"
        for i in range(60)
        if int(hashlib.sha256(f"f{i}.txt".encode()).hexdigest(), 16) % 10 == 0
    }
    assert held == expected and held
    assert {d.name for d in train.documents()} == {f"f{i}.txt" for i in range(60)} - held
    assert {share.name for share in shares if share.num_held_out} == held


def test_split_cuts_a_single_file_at_line_ends(tmp_path: Path) -> None:
    content = "".join(f"this is line number {i}\n" for i in range(2000))
    write(tmp_path, a_DOT_txt=content)
    train, held_out, shares = read_texts(tmp_path / "a.txt").split(0.2)
    parts = [*train, *held_out]
    assert sorted("".join(parts)) == sorted(content)
    assert all(part.endswith("\n") for part in parts)
    assert 0.05 < held_out.num_bytes() / len(content) < 0.4
    assert shares[0].num_held_out and shares[0].num_train


def test_split_never_leaves_a_part_empty(tmp_path: Path) -> None:
    write(tmp_path, a_DOT_txt="first line\n" * 40)
    train, held_out, _ = read_texts(tmp_path).split(0.001)
    assert train.num_bytes() and held_out.num_bytes()
    write(tmp_path, a_DOT_txt="one")
    with pytest.raises(InputError, match="too short"):
        read_texts(tmp_path).split()
    with pytest.raises(InputError, match="between 0 and 1"):
        read_texts(tmp_path).split(1.0)


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, a_DOT_txt_DOT_zst=b"x", a_DOT_parquet=b"x")

    def refuse(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("jeton.core.text_files.importlib.import_module", refuse)
    with pytest.raises(MissingExtraError, match="zstandard"):
        read_texts(tmp_path / "a.txt.zst")
    with pytest.raises(MissingExtraError, match="pyarrow"):
        read_texts(tmp_path / "a.parquet")


def test_collections_are_built_of_files(tmp_path: Path) -> None:
    write(tmp_path, a_DOT_txt="a", b_DOT_txt="b")
    texts = read_texts(tmp_path)
    assert list(TextCollection(texts.files[1:])) == ["b"]
