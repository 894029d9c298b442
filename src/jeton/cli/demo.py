"""`jeton demo`: the main job on the starter model and Python's own standard library."""

from pathlib import Path

import typer

from jeton.cli.common import finishable, plain_warnings, progress_for


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example:\n\n  jeton demo --out demo")(demo)


def demo(
    out: Path = typer.Option(Path("demo"), help="Folder to write; must be new or empty."),
    minutes: float = typer.Option(1.25, help="Time for healing."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as one JSON document."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Retrofit the starter model to Python code; needs nothing but this installation."""
    plain_warnings()
    from jeton.cli.moves import show
    from jeton.retrofit.demo import demo_config
    from jeton.retrofit.page import retrofit_document
    from jeton.retrofit.pipeline import retrofit

    with finishable("retrofit", out):
        result = retrofit(demo_config(out, minutes), progress=progress_for(quiet))
    show(retrofit_document(result), result, out, as_json=as_json)
