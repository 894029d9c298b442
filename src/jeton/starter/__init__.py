"""A small real model, trained by this project, and its draft; see the MODEL_CARD.md here."""

import hashlib
import sysconfig
from pathlib import Path

from jeton.errors import InputError

NAMES = {"starter": "target", "starter-draft": "draft"}
_HERE = Path(__file__).parent


def starter_path(name: str = "starter") -> Path:
    """Return the folder of the starter model, or of its draft ("starter-draft").

    Raises:
        InputError: the name is neither, or the package was installed without its data.
    """
    if name not in NAMES:
        raise InputError(f"no starter model is called {name!r}; there are: {', '.join(NAMES)}")
    folder = _HERE / NAMES[name]
    if not (folder / "model.safetensors").is_file():
        raise InputError(
            f"this installation holds no weights for {name!r} ({folder})",
            hint="install jeton from a full checkout or wheel",
        )
    return folder


def hypernetwork_path() -> Path:
    """Return the folder of the network that predicts the starter model's rows (ZeTT)."""
    return _HERE / "hypernetwork"


def general_text_path() -> Path:
    """Return a short English prose sample, written for this project and never trained on."""
    return _HERE / "general.txt"


def library_bucket(relative_path: str) -> int:
    """Return 0 to 9 for a file of Python's standard library, by a hash of its path.

    The starter model was trained on buckets 1 to 5. Bucket 0 is held out from everything.
    """
    return int(hashlib.sha256(relative_path.encode()).hexdigest(), 16) % 10


def library_files() -> dict[str, Path]:
    """Return the Python files of the standard library that are UTF-8, by relative path."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = {}
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if {"site-packages", "__pycache__"} & set(relative.parts):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError):
            continue
        if text.strip() and "\0" not in text:
            files[relative.as_posix()] = path
    return files
