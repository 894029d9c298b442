"""`jeton prune`: take away the tokens that your text does not need, heal the model, certify it."""

from pathlib import Path

import typer

from jeton.cli import moves as shared

EPILOG = """
Example:

  jeton prune starter --text src/ --out pruned --steps 0
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(prune)


def prune(
    model: str = typer.Argument("", help="Folder or hub name of a causal LM, or 'starter'."),
    text: list[Path] = shared.TEXT,
    out: Path | None = shared.OUT,
    vocab_size: int = typer.Option(0, help="Tokens that stay; 0: all that your text needs."),
    held_out: list[Path] = shared.HELD_OUT,
    general: list[Path] = shared.GENERAL,
    init: str = shared.INIT,
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
    """Take away the tokens that your text does not need, heal the model, certify it."""
    fields = dict(locals())
    calls = {key: fields.pop(key) for key in ("resume", "as_json", "html", "quiet")}
    shared.run_move("prune", fields, **calls)
