"""The `jeton` command: registers the verbs and turns errors into exit codes."""

import os
import sys
from typing import Any

import typer

from jeton import __version__
from jeton.cli import (
    atlas,
    audit,
    bench,
    demo,
    distill,
    draft,
    dynamic,
    ensemble,
    extend,
    generate,
    hypernetwork,
    learn,
    methods,
    prune,
    retrofit,
    score,
    sinks,
    transfer,
    tune_decoding,
)
from jeton.errors import JetonError

app = typer.Typer(
    name="jeton",
    help="Fewer tokens, cheaper tokens, the same bytes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_VERBS = (
    retrofit,
    learn,
    transfer,
    extend,
    prune,
    distill,
    hypernetwork,
    dynamic,
    audit,
    atlas,
    score,
    sinks,
    generate,
    tune_decoding,
    draft,
    ensemble,
    bench,
    methods,
    demo,
)
for verb in _VERBS:
    verb.register(app)

# The base of what typer raises about a command line; where its class lives depends on the version.
_USAGE_ERROR: Any = typer.BadParameter.__base__


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"jeton {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Fewer tokens, cheaper tokens, the same bytes."""


def main() -> None:
    """Run a verb.

    Exit codes: 0 fine, 1 a bug, 2 a mistake in what was asked, 3 a condition of `--fail-on` holds,
    130 Ctrl-C.
    """
    try:
        # Without standalone mode typer returns the code of `typer.Exit` and of Ctrl-C.
        code = app(prog_name="jeton", standalone_mode=False)
        sys.stdout.flush()  # here, so that a reader that has gone is noticed here
    except JetonError as error:
        code = _complain(str(error), error.hint)
    except _USAGE_ERROR as error:
        code = _complain_about_usage(error)
    except typer.Abort:
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    if code == 130:
        print("\ninterrupted", file=sys.stderr)
    if code:
        raise SystemExit(code)


def _complain(message: str, hint: str | None) -> int:
    print(f"error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    return 2


def _complain_about_usage(error: Any) -> int:
    """Say what is wrong with a command line; typer itself shows the help when there is none."""
    message = error.format_message()
    verb = error.ctx.command_path if error.ctx is not None else "jeton"
    return _complain(message, f"{verb} --help") if message else 2
