"""Texts given by a user: files and folders of many kinds, read as whole documents of `str`.

Line ends are kept as they are and a document is never cut into lines, so that a vocabulary can
learn blank lines and indentation. Everything is streamed and can be read again; the order is that
of the sorted paths, so that the same folder gives the same documents everywhere.
"""

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jeton.core.text_files import (
    BLOCK_BYTES,
    Document,
    TextFile,
    open_bytes,
    read_documents,
    why_not_text,
)
from jeton.errors import InputError

# Below this many documents a split by whole files is too coarse, so files are cut into pieces.
MIN_DOCUMENTS_TO_SPLIT = 20
_SPLIT_DIGITS = 6


@dataclass(frozen=True, slots=True)
class FileShare:
    """How many documents of one file went to each part of a split."""

    name: str
    num_train: int
    num_held_out: int


@dataclass(frozen=True)
class TextCollection:
    """Documents that can be iterated any number of times; iterating yields `str`.

    Attributes:
        files: The files behind it, sorted.
        skipped: Files of a folder that hold no text, with the reason.
        field: The field of a JSON line or the column of a Parquet file that holds the text.
        limit_bytes: Stop after so many bytes of UTF-8; the last document is cut.
        piece_bytes: Cut documents into pieces of about this size; 0 for whole documents.
        held_out: The share that a split holds out.
        part: Which part of the split this is; empty for everything.
    """

    files: tuple[TextFile, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    field: str = "text"
    limit_bytes: int | None = None
    piece_bytes: int = 0
    held_out: float = 0.0
    part: str = ""
    forced: str = ""  # held out although its hash says otherwise, so that no part is empty

    def __iter__(self) -> Iterator[str]:
        for document in self.documents():
            yield document.text

    def documents(self) -> Iterator[Document]:
        """Yield the documents with their names.

        Raises:
            InputError: a file cannot be read, or is not what its name says.
        """
        for document in self._all_documents():
            if not self.part or (self.part == "held_out") == self._is_held_out(document.name):
                yield document

    def num_bytes(self) -> int:
        """Return the size of all documents in UTF-8; reads everything."""
        return sum(len(text.encode()) for text in self)

    def hashes(self) -> dict[str, str]:
        """Return {file name: sha256} for the record of a run."""
        found: dict[str, str] = {}
        for file in self.files:
            digest = hashlib.sha256()
            with open_bytes(file) as stream:
                while block := stream.read(BLOCK_BYTES):
                    digest.update(block)
            found[file.name] = digest.hexdigest()
        return found

    def split(
        self, held_out: float = 0.1
    ) -> tuple["TextCollection", "TextCollection", list[FileShare]]:
        """Divide the documents into a part to learn from and a part held out.

        A document goes where the hash of its name says, so that adding files moves no others. When
        there are few documents they are first cut into pieces at line ends.

        Args:
            held_out: Share of the documents to hold out, 0 < held_out < 1.
        Returns:
            The part to learn from, the part held out, and where each file's documents went.
        Raises:
            InputError: held_out is outside its range, or there is too little text to divide.
        """
        if not 0 < held_out < 1:
            raise InputError(f"held_out must lie between 0 and 1, got {held_out}")
        sizes = {d.name: len(d.text.encode()) for d in self._all_documents()}
        whole = replace(self, held_out=held_out)
        if len(sizes) < MIN_DOCUMENTS_TO_SPLIT:
            piece_bytes = max(256, sum(sizes.values()) // 100)
            whole = replace(whole, piece_bytes=piece_bytes)
            sizes = {d.name: len(d.text.encode()) for d in whole._all_documents()}
        if len(sizes) < 2:
            raise InputError(
                f"the text of {self._where()} is too short to hold out a part of it",
                hint="give more text, or text to verify on of its own",
            )
        parts = {name: whole._is_held_out(name) for name in sizes}
        if len(set(parts.values())) == 1:
            whole = replace(whole, forced=min(parts, key=_position))
            parts = {name: name == whole.forced for name in parts}
        shares: dict[str, list[int]] = {}
        for name, is_held_out in parts.items():
            shares.setdefault(name.split("#", 1)[0], [0, 0])[is_held_out] += 1
        listed = [FileShare(name, train, held) for name, (train, held) in shares.items()]
        return replace(whole, part="train"), replace(whole, part="held_out"), listed

    def _is_held_out(self, name: str) -> bool:
        if self.forced:
            return name == self.forced
        return _position(name) < self.held_out

    def _where(self) -> str:
        names = [file.name for file in self.files]
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    def _all_documents(self) -> Iterator[Document]:
        left = self.limit_bytes
        for file in self.files:
            for document in read_documents(file, self.field):
                for piece in _pieces(document, self.piece_bytes):
                    if left is not None:
                        if left <= 0:
                            return
                        data = piece.text.encode()
                        left -= len(data)
                        if left < 0:
                            cut = data[: len(data) + left].decode(errors="ignore")
                            piece = Document(piece.name, cut)
                    if piece.text:
                        yield piece


def read_texts(
    paths: Sequence[str | Path] | str | Path,
    *,
    limit_bytes: int | None = None,
    field: str = "text",
) -> TextCollection:
    """Look at files and folders and return their texts.

    Folders are searched through; hidden files are left out, and files in them that are not text
    are skipped with a warning. Plain text, JSON lines (`.jsonl`), Parquet, each also with `.gz` or
    `.zst`.

    Args:
        paths: Files and folders.
        limit_bytes: Read at most so many bytes of text.
        field: The field of JSON lines or the column of Parquet files that holds the text.
    Returns:
        A collection that reads the files anew on each iteration.
    Raises:
        InputError: a path is missing or unreadable, a file asked for is not UTF-8 text, or a
            folder holds no text at all.
    """
    if isinstance(paths, (str, Path)):
        paths = [paths]
    if not paths:
        raise InputError("no text was given", hint="add --text FILE_OR_FOLDER")
    files: list[TextFile] = []
    skipped: list[tuple[str, str]] = []
    for given in paths:
        path = Path(given).expanduser()
        if not path.exists():
            raise InputError(f"{path} does not exist", hint="check the path to the text")
        if path.is_dir():
            found, bad = _search(path)
            files += found
            skipped += bad
        else:
            file = TextFile(path, path.name, True)
            reason = why_not_text(file)
            if reason is not None:
                raise InputError(f"{path} {reason[0]}", hint=reason[1])
            files.append(file)
    if skipped:
        shown = "; ".join(f"{name} {reason}" for name, reason in skipped[:3])
        warnings.warn(f"skipped {len(skipped)} files that are not text: {shown}", stacklevel=2)
    collection = TextCollection(tuple(files), tuple(skipped), field, limit_bytes)
    if next(iter(collection), None) is None:
        where = ", ".join(str(path) for path in paths)
        raise InputError(f"{where} holds no text: every file is empty", hint="give other text")
    return collection


def _search(folder: Path) -> tuple[list[TextFile], list[tuple[str, str]]]:
    """Return the text files below a folder, and the others with the reason."""

    def refuse(error: OSError) -> None:
        raise InputError(f"cannot read {error.filename}: {error.strerror}") from error

    files, skipped = [], []
    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__pycache__")))
        for name in sorted(names):
            path = Path(root) / name
            if name.startswith(".") or not path.is_file():
                continue
            file = TextFile(path, path.relative_to(folder).as_posix(), False)
            reason = why_not_text(file)
            if reason is None:
                files.append(file)
            else:
                skipped.append((file.name, reason[0]))
    if not files:
        detail = f"; skipped {len(skipped)}, such as {' '.join(skipped[0])}" if skipped else ""
        raise InputError(f"{folder} holds no text files{detail}", hint="give a folder of text")
    return sorted(files, key=lambda file: file.name), skipped


def _pieces(document: Document, piece_bytes: int) -> Iterable[Document]:
    """Cut a document into pieces of about `piece_bytes`, after line ends where there are some."""
    if not piece_bytes or len(document.text) <= piece_bytes:
        return [document]
    pieces: list[Document] = []
    start, text = 0, document.text
    while start < len(text):
        end = start + piece_bytes
        line_end = text.find("\n", end) + 1
        end = line_end if 0 < line_end <= end + piece_bytes else end
        pieces.append(Document(f"{document.name}#{len(pieces)}", text[start:end]))
        start = end
    return pieces


def _position(name: str) -> float:
    """Return where in [0, 1) a name falls; its first decimal is the sha256 modulo 10."""
    value = int(hashlib.sha256(name.encode()).hexdigest(), 16)
    return float(sum((value // 10**k % 10) / 10 ** (k + 1) for k in range(_SPLIT_DIGITS)))
