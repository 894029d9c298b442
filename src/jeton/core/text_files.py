"""Text files: plain, JSON lines and Parquet, packed or not, as documents of `str`."""

import codecs
import gzip
import importlib
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from jeton.errors import InputError, MissingExtraError

# A file is read in documents of at most this many bytes, cut after a line end where there is one.
MAX_DOCUMENT_BYTES = 1 << 25
BLOCK_BYTES = 1 << 20
_COMPRESSED = (".gz", ".zst")
_JSON_LINES = (".jsonl", ".ndjson")


@dataclass(frozen=True, slots=True)
class Document:
    """One text with the name that errors and splits know it by."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file with the name that splits know it by."""

    path: Path
    name: str  # relative to the folder that was asked for, with forward slashes
    was_asked_for: bool  # named by the user, not found in a folder


def _kind(path: Path) -> str:
    """Return the suffix that says how the content is to be read, without the compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def why_not_text(file: TextFile) -> tuple[str, str] | None:
    """Return why a file is no text and what to do; plain files are checked to their end."""
    if _kind(file.path) == ".parquet":
        return None
    is_compressed = file.path.suffix.lower() in _COMPRESSED
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset = 0
    try:
        with open_bytes(file) as stream:
            while block := stream.read(BLOCK_BYTES):
                if offset == 0 and block.startswith((b"\xff\xfe", b"\xfe\xff")):
                    return "is UTF-16, not UTF-8", f"iconv -f UTF-16 -t UTF-8 {file.path.name}"
                nul = block.find(b"\0")
                if nul >= 0:
                    return f"is binary: byte {offset + nul} is NUL", "give text, not binary data"
                pending = len(decoder.getstate()[0])
                try:
                    decoder.decode(block)
                except UnicodeDecodeError as error:
                    where = offset - pending + error.start
                    return (
                        f"is not UTF-8: byte {where} is 0x{error.object[error.start]:02x}",
                        f"convert it: iconv -f LATIN1 -t UTF-8 {file.path.name}",
                    )
                offset += len(block)
                if is_compressed:
                    return None  # the rest is checked while it is read
            if decoder.getstate()[0]:
                return f"is not UTF-8: it ends inside a character at byte {offset}", "mend its end"
    except InputError as error:
        return str(error).removeprefix(f"{file.path} "), error.hint or "check the file"
    return None


@contextmanager
def open_bytes(file: TextFile) -> Iterator[IO[bytes]]:
    """Open a file for its bytes, unpacked."""
    path, suffix = file.path, file.path.suffix.lower()
    try:
        with path.open("rb") as raw:
            if suffix == ".gz":
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    yield cast(IO[bytes], unpacked)
            elif suffix == ".zst":
                zstandard = _optional("zstandard", path)
                with zstandard.ZstdDecompressor().stream_reader(raw) as unpacked:
                    yield io.BufferedReader(unpacked)
            else:
                yield raw
    except PermissionError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}", hint=f"chmod u+r {path}"
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path} is damaged: {error}", hint="check the compressed file") from error


def _optional(package: str, path: Path) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingExtraError(
            f"reading {path} needs the package {package}", hint=f"pip install {package}"
        ) from error


def read_documents(file: TextFile, field: str) -> Iterator[Document]:
    """Yield the documents of a file; `field` holds the text of JSON lines and Parquet rows."""
    kind = _kind(file.path)
    if kind in _JSON_LINES:
        yield from _read_json_lines(file, field)
    elif kind == ".parquet":
        yield from _read_parquet(file, field)
    else:
        yield from _read_plain(file)


def _read_plain(file: TextFile) -> Iterator[Document]:
    rest, number, offset = b"", 0, 0
    with open_bytes(file) as stream:
        while True:
            data = rest + stream.read(MAX_DOCUMENT_BYTES - len(rest))
            if not data:
                return
            cut = len(data)
            if cut == MAX_DOCUMENT_BYTES:
                cut = data.rfind(b"\n") + 1 or _last_boundary(data)
            name = file.name if number == 0 else f"{file.name}#{number}"
            yield Document(name, _decode(data[:cut], file.path, offset))
            rest, number, offset = data[cut:], number + 1, offset + cut


def _decode(data: bytes, path: Path, offset: int) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8: byte {offset + error.start} is 0x{data[error.start]:02x}",
            hint="convert it to UTF-8, for example with iconv",
        ) from error


def _last_boundary(data: bytes) -> int:
    """Return the start of the last character, where data may be cut."""
    cut = len(data) - 1
    while cut > 0 and data[cut] & 0xC0 == 0x80:
        cut -= 1
    return cut


def _read_json_lines(file: TextFile, field: str) -> Iterator[Document]:
    offset = 0
    with open_bytes(file) as stream:
        for number, line in enumerate(stream, start=1):
            text = _decode(line, file.path, offset)
            offset += len(line)
            if not text.strip():
                continue
            try:
                item = json.loads(text)
            except (json.JSONDecodeError, RecursionError) as error:
                raise InputError(f"{file.path}, line {number}, is not JSON: {error}") from error
            if not isinstance(item, dict) or not isinstance(item.get(field), str):
                has = ", ".join(item) if isinstance(item, dict) else type(item).__name__
                raise InputError(
                    f"{file.path}, line {number}, has no text field {field!r}; it has: {has}",
                    hint="name the field that holds the text",
                )
            yield Document(f"{file.name}#{number}", item[field])


def _read_parquet(file: TextFile, field: str) -> Iterator[Document]:
    parquet = _optional("pyarrow.parquet", file.path)
    with open_bytes(file) as stream:
        table = parquet.ParquetFile(stream if file.path.suffix == ".parquet" else stream.read())
        names = table.schema_arrow.names
        if field not in names:
            raise InputError(
                f"{file.path} has no column {field!r}; it has: {', '.join(names)}",
                hint="name the column that holds the text",
            )
        number = 0
        for batch in table.iter_batches(columns=[field]):
            for text in batch.column(0).to_pylist():
                number += 1
                if text is not None:
                    yield Document(f"{file.name}#{number}", str(text))
