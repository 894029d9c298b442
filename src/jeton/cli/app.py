"""The `jeton` command: registers the verbs and turns errors into exit codes."""

import sys

import typer

from jeton import __version__
from jeton.cli import audit, demo, generate, methods, retrofit, score
from jeton.errors import JetonError

app = typer.Typer(
    name="jeton",
    help="Fewer tokens, cheaper tokens, the same bytes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (retrofit, audit, score, generate, methods, demo):
    verb.register(app)


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
    """Run a verb. Exit codes: 0 fine, 2 a mistake in what was asked, 130 Ctrl-C, 1 a bug."""
    try:
        app(standalone_mode=False)
    except JetonError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        raise SystemExit(2) from None
    except (KeyboardInterrupt, typer.Abort):
        print("\ninterrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; that is no error of ours
        raise SystemExit(0) from None
