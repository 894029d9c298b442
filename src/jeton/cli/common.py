"""What several verbs share: printing one JSON document, bars, `--set` pairs, plain warnings."""

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jeton.core.progress import NO_PROGRESS, Bars, Progress
from jeton.core.run import to_json
from jeton.errors import ConfigError


def print_json(result: Any) -> None:
    """Print exactly one document on stdout."""
    json.dump(to_json(result), sys.stdout, indent=2, ensure_ascii=False)
    print()


def progress_for(quiet: bool) -> Progress:
    """Return bars on stderr, or silence."""
    return NO_PROGRESS if quiet or not is_first_process() else Bars()


def is_first_process() -> bool:
    """Whether this is the process that prints: of those that torchrun started, the first."""
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def finishable(verb: str, folder: Path) -> Iterator[None]:
    """Say how to finish a run whose folder this is, when Ctrl-C stops the block."""
    try:
        yield
    except KeyboardInterrupt:
        if (folder / "run.json").is_file() and is_first_process():
            print(f"\njeton {verb} --resume {folder} finishes this run", file=sys.stderr)
        raise


def parse_options(pairs: list[str]) -> dict[str, str]:
    """Return {"method.field": value} for `--set method.field=value` pairs.

    Raises:
        ConfigError: a pair is not of this form.

    Example:
        >>> parse_options(["cross_entropy.replay=0.5"])
        {'cross_entropy.replay': '0.5'}
    """
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        method, dot, name = key.partition(".")
        if not (equals and dot and method and name and value):
            raise ConfigError(
                f"--set takes method.field=value, got {pair!r}",
                hint="for example --set cross_entropy.lr_body=2e-4",
            )
        options[key] = value
    return options


def options_of(method: str, options: dict[str, str]) -> dict[str, str]:
    """Return the options of one method by field.

    Raises:
        ConfigError: an option names another method.

    Example:
        >>> options_of("rest", {"rest.store": "drafts.npz"})
        {'store': 'drafts.npz'}
    """
    strays = [key for key in options if key.partition(".")[0] != method]
    if strays:
        raise ConfigError(f"--set {strays[0]} does not belong to {method}, which was chosen")
    return {key.partition(".")[2]: value for key, value in options.items()}


def check_page(path: Path | None) -> None:
    """Refuse a page that could not be written, before any work.

    Raises:
        ConfigError: its folder is missing, or it is a folder itself.
    """
    if path is None:
        return
    if path.is_dir():
        raise ConfigError(f"--html {path} is a folder", hint=f"name a file: {path / 'page.html'}")
    if not path.parent.is_dir():
        raise ConfigError(
            f"--html {path}: there is no folder {path.parent}", hint=f"mkdir -p {path.parent}"
        )


def plain_warnings() -> None:
    """Print warnings as one line each; the place in our code is of no use to a user."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print(f"warning: {message}", file=sys.stderr)

    warnings.showwarning = show
