"""What the verbs transfer, extend, prune and distill share: their options and how they end."""

from pathlib import Path
from typing import Any

import typer

from jeton.cli.common import parse_options, plain_warnings, print_json, progress_for
from jeton.errors import ConfigError

TEXT = typer.Option([], "--text", help="File or folder of your text; repeatable.")
OUT = typer.Option(None, help="Folder to write; must be new or empty.")
HELD_OUT = typer.Option([], help="Text for verification only; otherwise a tenth of --text.")
GENERAL = typer.Option([], help="General text: mixed into healing, and shows forgetting.")
INIT = typer.Option("", help="How new embedding rows start; empty: mean, or the recipe's.")
HEAL = typer.Option("", help="How the model is trained; empty: cross_entropy, or the recipe's.")
MINUTES = typer.Option(10.0, help="Time for healing.")
STEPS = typer.Option(-1, help="Healing steps; overrides --minutes, 0 skips healing.")
CONTROL = typer.Option(
    False, "--control", help="Train the source as long on the same text, to compare."
)
LANGUAGE = typer.Option("", help="Warn when the text is in another language than this code.")
DTYPE = typer.Option("auto", help="auto, float32 or bfloat16.")
SEED = typer.Option(0, help="Of everything random.")
MAX_TEXT_BYTES = typer.Option(200_000_000, help="Most text that is read.")
VERIFY_BYTES = typer.Option(300_000, help="Most held-out text that is scored.")
THREADS = typer.Option(0, help="CPU threads; 0: torch's own choice.")
OPTIONS = typer.Option([], "--set", help="Field of a method: method.field=value; repeatable.")
RESUME = typer.Option(None, help="Finish the run that this folder holds.")
AS_JSON = typer.Option(False, "--json", help="Print the result as one JSON document.")
HTML = typer.Option(None, help="Write the page here too; it is always in --out.")
QUIET = typer.Option(False, "--quiet", "-q", help="No progress.")


def run_move(
    verb: str,
    fields: dict[str, Any],
    *,
    resume: Path | None,
    as_json: bool,
    html: Path | None,
    quiet: bool,
) -> None:
    """Run or finish a move and show its certificate.

    Args:
        verb: Its name.
        fields: Of `MoveConfig`, as the command line gives them.
        resume: Folder of a run to finish instead.
        as_json: Whether stdout gets one JSON document.
        html: Where a copy of the page goes.
        quiet: Whether there is no progress.
    """
    if resume is None and not fields["model"]:
        names = "TEACHER STUDENT" if verb == "distill" else "MODEL"
        raise ConfigError("no model was given", hint=f"jeton {verb} {names} --text DIR --out DIR")
    if resume is None and fields["out"] is None:
        raise ConfigError("no --out was given", hint="add --out with a new folder")
    plain_warnings()
    from jeton.retrofit.moves.config import MoveConfig
    from jeton.retrofit.moves.pipeline import move, resume_move

    if resume is not None:
        folder = resume
        result = resume_move(verb, resume, progress=progress_for(quiet))
    else:
        folder = fields["out"]
        lists = {name: tuple(fields[name]) for name in ("text", "held_out", "general")}
        options = parse_options(fields["options"])
        config = MoveConfig(verb=verb, **{**fields, **lists, "options": options})
        result = move(config, progress=progress_for(quiet))
    if html is not None:
        from jeton.core.run import write_atomically

        write_atomically(html, (folder / "report.html").read_bytes())
    if as_json:
        print_json(result)
        return
    from rich.console import Console

    from jeton.report.terminal import render_terminal
    from jeton.retrofit.moves.page import move_document

    console = Console()
    render_terminal(move_document(result), console)
    for label, name in (("model", "model"), ("report", "report.html"), ("figures", "result.json")):
        console.print(f"{label:<12} {folder / name}", highlight=False)
