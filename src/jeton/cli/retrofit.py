"""`jeton retrofit`: the main job."""

from pathlib import Path

import typer

from jeton.cli.common import parse_options, plain_warnings, print_json, progress_for
from jeton.errors import ConfigError

EPILOG = """
Examples:

  jeton retrofit starter --text src/ --out out --minutes 2

  jeton retrofit ./my-model --text corpus.jsonl --general wiki.txt --out adapted

  jeton retrofit --resume out
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(retrofit)


def retrofit(
    model: str = typer.Argument("", help="Folder or hub name of a causal LM, or 'starter'."),
    text: list[Path] = typer.Option([], "--text", help="File or folder of your text; repeatable."),
    out: Path | None = typer.Option(None, help="Folder to write; must be new or empty."),
    held_out: list[Path] = typer.Option(
        [], help="Text for verification only; otherwise a tenth of --text."
    ),
    general: list[Path] = typer.Option(
        [], help="General text: mixed into healing, and shows forgetting."
    ),
    learner: str = typer.Option(
        "auto",
        help="How the vocabulary is learned; auto extends a byte-level BPE, else learns bpe.",
    ),
    vocab_size: int = typer.Option(0, help="Size of the new vocabulary; 0: the learner's default."),
    init: str = typer.Option("mean", help="How new embedding rows start."),
    heal: str = typer.Option("cross_entropy", help="How the model is trained on them."),
    minutes: float = typer.Option(10.0, help="Time for healing."),
    steps: int = typer.Option(-1, help="Healing steps; overrides --minutes, 0 skips healing."),
    drafter: str = typer.Option(
        "prompt_lookup", help="Drafter of the speculative figures, or a file of tune-decoding."
    ),
    dtype: str = typer.Option("auto", help="auto, float32 or bfloat16."),
    seed: int = typer.Option(0, help="Of everything random."),
    max_text_bytes: int = typer.Option(200_000_000, help="Most text that is read."),
    verify_bytes: int = typer.Option(300_000, help="Most held-out text that is scored."),
    threads: int = typer.Option(0, help="CPU threads; 0: torch's own choice."),
    options: list[str] = typer.Option(
        [], "--set", help="Field of a method: method.field=value; repeatable."
    ),
    resume: Path | None = typer.Option(None, help="Finish the run that this folder holds."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as one JSON document."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Learn a vocabulary for your text, move a model onto it, heal it, certify it."""
    if resume is None and not model:
        raise ConfigError("no model was given", hint="jeton retrofit MODEL --text DIR --out DIR")
    if resume is None and out is None:
        raise ConfigError("no --out was given", hint="add --out with a new folder")
    plain_warnings()
    from jeton.retrofit.config import RetrofitConfig
    from jeton.retrofit.pipeline import resume as finish
    from jeton.retrofit.pipeline import retrofit as run

    if resume is not None:
        result = finish(resume, progress=progress_for(quiet))
        folder = resume
    else:
        assert out is not None
        config = RetrofitConfig(
            model=model,
            text=tuple(text),
            out=out,
            held_out=tuple(held_out),
            general=tuple(general),
            learner=learner,
            vocab_size=vocab_size,
            init=init,
            heal=heal,
            minutes=minutes,
            steps=steps,
            drafter=_drafter(drafter),
            dtype=dtype,
            seed=seed,
            max_text_bytes=max_text_bytes,
            verify_bytes=verify_bytes,
            threads=threads,
            options=parse_options(options),
        )
        result = run(config, progress=progress_for(quiet))
        folder = out
    if as_json:
        print_json(result)
    else:
        show(result, folder)


def _drafter(given: str) -> str:
    """Return the name of a drafter, read from the file of a tuning where one is given."""
    if not given.endswith(".json"):
        return given
    from jeton.decoding.tune import Tuning

    best = Tuning.load(given).best.drafter
    if best == "none":
        raise ConfigError(
            f"{given} found plain decoding the fastest", hint="name a drafter with --drafter"
        )
    return best


def show(result: object, folder: Path) -> None:
    """Print the certificate and where everything is."""
    from rich.console import Console

    from jeton.report.terminal import render_terminal
    from jeton.retrofit.page import retrofit_document

    console = Console()
    render_terminal(retrofit_document(result), console)  # type: ignore[arg-type]
    console.print(f"\nmodel        {folder / 'model'}", highlight=False)
    console.print(f"report       {folder / 'report.html'}", highlight=False)
    console.print(f"figures      {folder / 'result.json'}", highlight=False)
