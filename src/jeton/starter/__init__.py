"""A small real model, trained by this project, and its draft; see MODEL_CARD.md beside this file."""

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


def general_text_path() -> Path:
    """Return a short English prose sample, written for this project and never trained on."""
    return _HERE / "general.txt"
