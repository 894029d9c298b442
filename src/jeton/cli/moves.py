"""What retrofit, transfer, extend, prune and distill share: their options and how they end."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from jeton.cli.common import (
    finishable,
    is_first_process,
    parse_options,
    plain_warnings,
    print_json,
    progress_for,
)
from jeton.errors import ConfigError

if TYPE_CHECKING:
    from jeton.report.document import Document
    from jeton.retrofit.job import Job
    from jeton.retrofit.result import Certificate

MODEL = typer.Argument("", help="Folder or hub name of a causal LM, or 'starter'.")
_SHARED: dict[str, tuple[Any, Any]] = {
    "text": (
        list[Path],
        typer.Option([], "--text", help="File or folder of your text; repeatable."),
    ),
    "out": (Path | None, typer.Option(None, help="Folder to write; must be new or empty.")),
    "held_out": (
        list[Path],
        typer.Option([], help="Text for verification only; otherwise a tenth of --text."),
    ),
    "general": (
        list[Path],
        typer.Option([], help="General text: mixed into healing, and shows forgetting."),
    ),
    "init": (
        str,
        typer.Option("", help="How new embedding rows start; empty: auto (zett or mean)."),
    ),
    "heal": (
        str,
        typer.Option("", help="How the model is trained; empty: cross_entropy."),
    ),
    "minutes": (float, typer.Option(10.0, help="Time for healing.")),
    "steps": (
        int,
        typer.Option(-1, help="Healing steps; overrides --minutes, 0 skips healing."),
    ),
    "control": (
        bool,
        typer.Option(
            False, "--control", help="Train the source as long on the same text, to compare."
        ),
    ),
    "language": (
        str,
        typer.Option("", help="Warn when the text is in another language than this code."),
    ),
    "dtype": (str, typer.Option("auto", help="auto, float32 or bfloat16.")),
    "seed": (int, typer.Option(0, help="Of everything random.")),
    "max_text_bytes": (int, typer.Option(200_000_000, help="Most text that is read.")),
    "verify_bytes": (int, typer.Option(300_000, help="Most held-out text that is scored.")),
    "threads": (int, typer.Option(0, help="CPU threads; 0: torch's own choice.")),
    "options": (
        list[str],
        typer.Option([], "--set", help="Field of a method: method.field=value; repeatable."),
    ),
    "resume": (Path | None, typer.Option(None, help="Finish the run that this folder holds.")),
    "as_json": (
        bool,
        typer.Option(False, "--json", help="Print the result as one JSON document."),
    ),
    "html": (
        Path | None,
        typer.Option(None, help="Write the page here too; it is always in --out."),
    ),
    "quiet": (bool, typer.Option(False, "--quiet", "-q", help="No progress.")),
}
CALL = ("resume", "as_json", "html", "quiet")  # about one call, not about the result


def verb(*left_out: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a verb of a function that declares only what is its own.

    Its flags are its own parameters, then the shared ones; what it does is to run its job.

    Args:
        left_out: Shared options that it has not.
    """

    def made(declared: Callable[..., None]) -> Callable[..., None]:
        def run(**fields: Any) -> None:
            run_job(declared.__name__, fields)

        own = inspect.signature(declared).parameters
        keyword = inspect.Parameter.KEYWORD_ONLY
        shared = [
            inspect.Parameter(name, keyword, default=option, annotation=kind)
            for name, (kind, option) in _SHARED.items()
            if name not in own and name not in left_out
        ]
        run.__name__, run.__doc__ = declared.__name__, declared.__doc__
        parameters = [*(p.replace(kind=keyword) for p in own.values()), *shared]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return run

    return made


def run_job(name: str, fields: dict[str, Any]) -> None:
    """Run or finish a job and show its certificate.

    Args:
        name: Of the verb.
        fields: Of its configuration, as the command line gives them, and those of `CALL`.
    """
    call = {key: fields.pop(key) for key in CALL}
    if call["resume"] is None:
        if not fields["model"]:
            models = "TEACHER STUDENT" if name == "distill" else "MODEL"
            raise ConfigError(
                "no model was given", hint=f"jeton {name} {models} --text DIR --out DIR"
            )
        if fields["out"] is None:
            raise ConfigError("no --out was given", hint="add --out with a new folder")
    plain_warnings()
    folder, progress, job = call["resume"] or fields["out"], progress_for(call["quiet"]), _job(name)
    with finishable(name, folder):
        if call["resume"] is not None:
            result = job.resume(name, folder, progress)
        else:
            lists = {field: tuple(fields[field]) for field in ("text", "held_out", "general")}
            asked = {**fields, **lists, "options": parse_options(fields["options"])}
            result = job.start(job.configured(name, asked), progress)
    if is_first_process():
        show(job.document(result), result, folder, as_json=call["as_json"], html=call["html"])


def _job(name: str) -> "type[Job[Any, Any]]":
    if name == "retrofit":
        from jeton.retrofit.pipeline import Retrofit

        return Retrofit
    from jeton.retrofit.moves.pipeline import Move

    return Move


def show(
    document: "Document",
    result: "Certificate",
    folder: Path,
    *,
    as_json: bool = False,
    html: Path | None = None,
) -> None:
    """Print the certificate and where everything is.

    Args:
        document: The page.
        result: The certificate.
        folder: Of the run.
        as_json: Whether stdout gets one JSON document instead of the page.
        html: Where a copy of the page goes.
    """
    if html is not None:
        from jeton.core.run import write_atomically

        write_atomically(html, (folder / "report.html").read_bytes())
    if as_json:
        print_json(result)
        return
    from rich.console import Console

    from jeton.report.terminal import render_terminal

    console = Console()
    render_terminal(document, console)
    console.print()
    for label, name in (("model", "model"), ("report", "report.html"), ("figures", "result.json")):
        console.print(f"{label:<12} {folder / name}", highlight=False)
