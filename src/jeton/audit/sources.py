"""Evidence read from files: parallel text, a lexicon, morpheme segmentations."""

from collections.abc import Sequence
from pathlib import Path

from jeton.audit.evidence import Lexicon
from jeton.core.texts import read_texts
from jeton.errors import InputError

_MAX_BYTES = 200_000_000  # of one file; aligned passages are small


def read_parallel(folder: Path) -> dict[str, list[str]]:
    """Return language -> passages of a folder with one text file per language.

    Line i of every file is the same passage; the language is the file's name without its ending.

    Raises:
        InputError: there are fewer than two such files, or their lines do not match in number.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", hint="give a folder with a file per language")
    paths = sorted(p for p in folder.iterdir() if p.suffix == ".txt" and p.is_file())
    texts = {path.stem: _read(path).removesuffix("\n").split("\n") for path in paths}
    if len(texts) < 2:
        raise InputError(
            f"{folder} has {len(texts)} files that end in .txt; parallel text needs at least two",
            hint="one file per language, such as eng.txt and fra.txt, line i the same passage",
        )
    usual = max(texts.values(), key=lambda lines: sum(len(t) == len(lines) for t in texts.values()))
    odd = {name: len(lines) for name, lines in texts.items() if len(lines) != len(usual)}
    if odd:
        shown = ", ".join(f"{name} {count}" for name, count in list(odd.items())[:5])
        raise InputError(
            f"the files of {folder} are not parallel: most have {len(usual)} lines, but {shown}",
            hint="line i must be the same passage in every file; leave lines empty where needed",
        )
    if not any(map(str.strip, usual)):
        raise InputError(f"the files of {folder} are empty")
    return texts


def read_lexicon(path: Path, morphemes: Path | None = None) -> Lexicon:
    """Return the words of a file with one word per line; what follows a tab is left out.

    Raises:
        InputError: the file cannot be read, or has no words.
    """
    words = _first_fields(path)
    parts = _first_fields(morphemes) if morphemes is not None else frozenset()
    return Lexicon(words, parts)


def read_segmentation(path: Path) -> dict[str, tuple[str, ...]]:
    """Return word -> morphemes of lines "word TAB morphemes", as SIGMORPHON 2022 writes them.

    Morphemes stand with spaces, or " @@", between them. Lines whose morphemes do not add up to the
    word (canonical segmentations) say nothing about borders and are left out.

    Raises:
        InputError: the file cannot be read, or no line is left.
    """
    found = {}
    for line in _read(path).splitlines():
        word, _, rest = line.partition("\t")
        parts = tuple(rest.partition("\t")[0].replace("@@", "").split())
        if word and "".join(parts) == word:
            found[word] = parts
    if not found:
        raise InputError(
            f"{path} has no line whose morphemes add up to its word",
            hint='write lines such as "cats<TAB>cat s"',
        )
    return found


def _first_fields(path: Path) -> frozenset[str]:
    words = {line.partition("\t")[0].strip() for line in _read(path).splitlines()} - {""}
    if not words:
        raise InputError(f"{path} has no words", hint="write one word per line")
    return frozenset(words)


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is larger than {_MAX_BYTES:,} bytes")
        return path.read_text(encoding="utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}", hint="convert it first") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def read_groups(paths: Sequence[Path], limit_bytes: int) -> dict[str, list[str]]:
    """Return the documents of files and folders: one group for each path, or "text" for one.

    Raises:
        InputError: a path has no text.
    """
    if len(paths) == 1:
        return {"text": list(read_texts(paths, limit_bytes=limit_bytes))}
    groups: dict[str, list[str]] = {}
    for path in paths:
        name = path.name or str(path)
        groups.setdefault(name, []).extend(
            read_texts([path], limit_bytes=limit_bytes // len(paths))
        )
    return groups
