"""`jeton transfer`: move a model onto another vocabulary, heal it, certify it."""

from pathlib import Path

import typer

from jeton.cli import moves as shared

EPILOG = """
Examples:

  jeton transfer starter --to other-model --text src/ --out moved --minutes 5

  jeton transfer starter --to bytes --text src/ --out bytes --heal alm

  jeton transfer starter --recipe vocabulary_expansion --text src/ --out grown
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(transfer)


def transfer(
    model: str = typer.Argument("", help="Folder or hub name of a causal LM, or 'starter'."),
    text: list[Path] = shared.TEXT,
    out: Path | None = shared.OUT,
    to: str = typer.Option(
        "", help="A tokenizer or model folder, bytes, or a method that learns a vocabulary."
    ),
    recipe: str = typer.Option("", help="A published recipe; see jeton methods --room recipes."),
    vocab_size: int = typer.Option(
        0, help="Size of a vocabulary that is learned; 0: the source's."
    ),
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
    """Move a model onto another vocabulary, heal it, certify it."""
    fields = dict(locals())
    calls = {key: fields.pop(key) for key in ("resume", "as_json", "html", "quiet")}
    shared.run_move("transfer", fields, **calls)
