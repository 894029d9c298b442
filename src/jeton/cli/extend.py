"""`jeton extend`: add tokens of your text to a model's vocabulary, heal it, certify it."""

from pathlib import Path

import typer

from jeton.cli import moves as shared

EPILOG = """
Example:

  jeton extend starter --text src/ --num-tokens 2048 --out extended --minutes 2
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(extend)


def extend(
    model: str = typer.Argument("", help="Folder or hub name of a causal LM, or 'starter'."),
    text: list[Path] = shared.TEXT,
    out: Path | None = shared.OUT,
    num_tokens: int = typer.Option(0, help="Tokens to add; 0: the share --growth."),
    growth: float = typer.Option(0.0, help="Tokens to add as a share of the vocabulary; 0: 0.25."),
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
    """Add tokens of your text to a model's vocabulary, heal it, certify it."""
    fields = dict(locals())
    calls = {key: fields.pop(key) for key in ("resume", "as_json", "html", "quiet")}
    shared.run_move("extend", fields, **calls)
