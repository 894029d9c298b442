"""Run folders: a long job owns one, survives being killed, and is finished by `--resume`.

Layout: `run.json` (what was asked: config, inputs with hashes, versions), `items.jsonl` (one line
per finished item, flushed), `result.json` (written last, by an atomic rename).
"""

import contextlib
import errno
import hashlib
import json
import os
import platform
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jeton.errors import ConfigError, CorruptRunError, DiskFullError

SCHEMA_VERSION = 1
_CANNOT_WRITE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
)
_PACKAGES = ("jeton", "torch", "transformers", "tokenizers", "numpy")


def to_json(value: Any) -> Any:
    """Return a dataclass, path, enum or container as plain JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        return {k: to_json(v) for k, v in asdict(value).items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="backslashreplace")
    return value


@dataclass
class Interrupt:
    """Whether Ctrl-C was pressed while it was deferred."""

    requested: bool = False

    def raise_if_requested(self) -> None:
        """Raise KeyboardInterrupt at a point where the state is whole."""
        if self.requested:
            raise KeyboardInterrupt


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Collect Ctrl-C instead of raising it in the middle of a step; a second one raises at once."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def note(signum: int, frame: Any) -> None:
        if interrupt.requested:
            raise KeyboardInterrupt
        interrupt.requested = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn "no space", "read-only" and "no permission" into a DiskFullError that names the path."""
    try:
        yield
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        raise DiskFullError(
            f"cannot write {path}: {error.strerror}",
            hint="free some space or give another --out; a started run goes on with --resume",
        ) from error


def write_atomically(path: Path, data: str | bytes) -> None:
    """Write a file so that readers see the old content or the new, never a part.

    Raises:
        DiskFullError: the disk is full or the place is not writable; nothing is left behind.
    """
    content = data.encode() if isinstance(data, str) else data
    partial = path.with_name(path.name + ".partial")
    with disk_errors(path):
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def hash_file(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def environment() -> dict[str, str]:
    """Return the versions and the machine that a result depends on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


@dataclass
class RunFolder:
    """One job's folder; open it with `create` or `resume`."""

    path: Path

    @classmethod
    def create(
        cls, path: Path, config: Mapping[str, Any], inputs: Mapping[str, str]
    ) -> "RunFolder":
        """Make the folder and write `run.json`.

        Raises:
            ConfigError: the folder exists and is not empty.
            DiskFullError: the place cannot be written.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            resumable = (path / "run.json").is_file() and not (path / "result.json").is_file()
            raise ConfigError(
                f"{path} already exists and is not an empty folder",
                hint=f"finish it with --resume {path}" if resumable else "choose another --out",
            )
        with disk_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        document = {
            "schema_version": SCHEMA_VERSION,
            "config": to_json(config),
            "inputs": dict(inputs),
            "environment": environment(),
        }
        write_atomically(path / "run.json", json.dumps(document, indent=2) + "\n")
        return cls(path)

    @classmethod
    def resume(cls, path: Path) -> "RunFolder":
        """Open a folder that an earlier run left.

        Raises:
            ConfigError: there is no run in the folder.
            CorruptRunError: `run.json` cannot be read or is of another version.
        """
        if not (path / "run.json").is_file():
            raise ConfigError(f"{path} holds no run.json", hint="give the --out of an earlier run")
        folder = cls(path)
        if folder.document().get("schema_version") != SCHEMA_VERSION:
            raise CorruptRunError(
                f"{path}/run.json is not of schema version {SCHEMA_VERSION}",
                hint="start again with another --out",
            )
        return folder

    def document(self) -> dict[str, Any]:
        """Return `run.json`."""
        try:
            document = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise CorruptRunError(
                f"{self.path}/run.json is damaged: {error}", hint="start again with another --out"
            ) from error
        if not isinstance(document, dict):
            raise CorruptRunError(f"{self.path}/run.json is not an object")
        return document

    def check_unchanged(self, inputs: Mapping[str, str]) -> None:
        """Refuse to go on when an input's content differs from that of the first start.

        Raises:
            CorruptRunError: naming the inputs that changed.
        """
        before = self.document()["inputs"]
        changed = sorted(k for k in {*before, *inputs} if before.get(k) != inputs.get(k))
        if changed:
            raise CorruptRunError(
                f"inputs changed since {self.path} was started: {', '.join(changed[:5])}",
                hint="restore them, or start again with another --out",
            )

    def append(self, item: Mapping[str, Any]) -> None:
        """Add one finished item; it survives a kill from here on."""
        line = json.dumps(to_json(item)) + "\n"
        path = self.path / "items.jsonl"
        with disk_errors(path), path.open("a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def items(self) -> list[dict[str, Any]]:
        """Return the finished items; a last line cut off by a kill is dropped from the file."""
        path = self.path / "items.jsonl"
        if not path.is_file():
            return []
        items = []
        lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines[:-1], start=1):
            try:
                items.append(json.loads(line))
            except ValueError as error:
                raise CorruptRunError(
                    f"{path}, line {number}, is damaged: {error}",
                    hint="start again with another --out",
                ) from error
        if lines[-1]:
            write_atomically(path, b"".join(line + b"\n" for line in lines[:-1]))
        return items

    def finish(self, result: Any) -> Path:
        """Write `result.json`, the sign that the run is complete."""
        path = self.path / "result.json"
        write_atomically(path, json.dumps(to_json(result), indent=2) + "\n")
        return path

    @property
    def is_finished(self) -> bool:
        """Whether `result.json` was written."""
        return (self.path / "result.json").is_file()
