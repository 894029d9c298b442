"""`jeton draft`: make a draft for a model."""

from pathlib import Path

import typer

from jeton.cli.common import finishable, parse_options, plain_warnings, print_json, progress_for
from jeton.errors import ConfigError

EPILOG = """
Examples:

  jeton draft train starter --text src/ --method hydra --minutes 4 --out heads

  jeton draft train starter --text src/ --method fastdraft --out draft

  jeton draft train --resume heads
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(draft)


def draft(
    action: str = typer.Argument(..., help="What to do: train."),
    target: str = typer.Argument("", help="Folder or hub name of a causal LM, or 'starter'."),
    text: list[Path] = typer.Option([], "--text", help="File or folder of text; repeatable."),
    out: Path | None = typer.Option(None, help="Folder to write; must be new or empty."),
    method: str = typer.Option("hydra", help="How; see jeton methods --room draft_trainers."),
    held_out: list[Path] = typer.Option(
        [], help="Text for the figures only; otherwise a tenth of --text."
    ),
    draft_model: str = typer.Option("", help="For methods that train one further."),
    minutes: float = typer.Option(4.0, help="Time for training."),
    steps: int = typer.Option(-1, help="Training steps; overrides --minutes."),
    measure_tokens: int = typer.Option(1024, help="Held-out tokens that are decoded."),
    seed: int = typer.Option(0, help="Of everything random."),
    max_text_bytes: int = typer.Option(50_000_000, help="Most text that is read."),
    threads: int = typer.Option(0, help="CPU threads; 0: torch's own choice."),
    options: list[str] = typer.Option(
        [], "--set", help="Field of the method: method.field=value; repeatable."
    ),
    resume: Path | None = typer.Option(None, help="Finish the run that this folder holds."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as one JSON document."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Train a draft on text, with the target as its teacher; measure it on held-out text."""
    if action != "train":
        raise ConfigError(f"draft can train, not {action!r}", hint="jeton draft train MODEL ...")
    if resume is None and not target:
        raise ConfigError("no target was given", hint="jeton draft train MODEL --text DIR")
    if resume is None and out is None:
        raise ConfigError("no --out was given", hint="add --out with a new folder")
    plain_warnings()
    from jeton.decoding.training.config import DraftTrainConfig
    from jeton.decoding.training.run import resume_draft, train_draft

    if resume is not None:
        with finishable("draft train", resume):
            result = resume_draft(resume, progress=progress_for(quiet))
    else:
        assert out is not None
        config = DraftTrainConfig(
            target=target,
            text=tuple(text),
            out=out,
            method=method,
            held_out=tuple(held_out),
            draft_model=draft_model,
            minutes=minutes,
            steps=steps,
            measure_tokens=measure_tokens,
            seed=seed,
            max_text_bytes=max_text_bytes,
            threads=threads,
            options=parse_options(options),
        )
        with finishable("draft train", out):
            result = train_draft(config, progress=progress_for(quiet))
    if as_json:
        print_json(result)
        return
    print(
        f"{result.method}: {result.num_steps} steps, {result.num_tokens} tokens, "
        f"{result.seconds:.0f} s"
    )
    for name, value in result.after.items():
        print(f"{name:20} {result.before[name]:10.4g} -> {value:.4g}")
    print(f"folder               {result.folder}")
