"""`jeton distill`: teach a model by another one, whatever their vocabularies, and certify it."""

from pathlib import Path

import typer

from jeton.cli import moves as shared

EPILOG = """
Example:

  jeton distill starter starter-draft --text src/ --out taught --minutes 5
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(distill)


def distill(
    teacher: str = typer.Argument("", help="The model to learn from, with any vocabulary."),
    model: str = typer.Argument(
        "", metavar="STUDENT", help="The model that learns; keeps its vocabulary."
    ),
    text: list[Path] = shared.TEXT,
    out: Path | None = shared.OUT,
    held_out: list[Path] = shared.HELD_OUT,
    general: list[Path] = shared.GENERAL,
    heal: str = shared.HEAL,
    minutes: float = shared.MINUTES,
    steps: int = shared.STEPS,
    control: bool = shared.CONTROL,
    language: str = shared.LANGUAGE,
    dtype: str = shared.DTYPE,
    seed: int = shared.SEED,
    max_text_bytes: int = shared.MAX_TEXT_BYTES,
    verify_bytes: int = shared.VERIFY_BYTES,
    threads: int = shared.THREADS,
    options: list[str] = shared.OPTIONS,
    resume: Path | None = shared.RESUME,
    as_json: bool = shared.AS_JSON,
    html: Path | None = shared.HTML,
    quiet: bool = shared.QUIET,
) -> None:
    """Teach a model by another one, whatever their vocabularies, and certify it."""
    fields = dict(locals())
    calls = {key: fields.pop(key) for key in ("resume", "as_json", "html", "quiet")}
    shared.run_move("distill", fields, **calls)
