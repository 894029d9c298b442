"""`jeton learn`: a vocabulary for your text, as a folder that transformers loads."""

from pathlib import Path

import typer

from jeton.cli.common import finishable, plain_warnings, print_json, progress_for
from jeton.errors import ConfigError

EPILOG = """
Examples:

  jeton learn bpe --text corpus/ --vocab-size 32000 --out my-tokenizer

  jeton learn superbpe --text books.jsonl.zst --vocab-size auto --out super --set transition=0.8

  jeton learn --resume my-tokenizer
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(learn)


def learn(
    method: str = typer.Argument("", help="Name of a learner; see jeton methods --room learn."),
    text: list[Path] = typer.Option([], "--text", help="File or folder; repeatable."),
    out: Path | None = typer.Option(None, help="Folder to write; must be new or empty."),
    vocab_size: str = typer.Option(
        "", help="Tokens, or auto for the size that pays; empty: the method's default."
    ),
    base: str = typer.Option(
        "", help="Tokenizer to start from, or to take special tokens and pre-tokenizer of."
    ),
    digits: str = typer.Option("", help="How numbers are cut: single, left or right."),
    options: list[str] = typer.Option([], "--set", help="Field of the method: field=value."),
    text_field: str = typer.Option(
        "text", help="Field of JSON lines or Parquet that holds the text."
    ),
    max_text_bytes: int = typer.Option(0, help="Most text that is read; 0: all."),
    processes: int = typer.Option(1, help="Processes that count."),
    hidden_size: int = typer.Option(2048, help="For auto: width of the model."),
    body_parameters: int = typer.Option(
        1_000_000_000, help="For auto: parameters of the model besides its embeddings."
    ),
    resume: Path | None = typer.Option(None, help="Finish the run that this folder holds."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as one JSON document."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Learn a vocabulary from your text."""
    plain_warnings()
    from jeton.learn.run import LearnConfig, learn_to_folder
    from jeton.learn.run import resume as finish

    if resume is not None:
        with finishable("learn", resume):
            result = finish(resume, progress=progress_for(quiet))
    else:
        if not method:
            raise ConfigError(
                "no method was given", hint="jeton learn bpe --text DIR --vocab-size N --out DIR"
            )
        if out is None:
            raise ConfigError("no --out was given", hint="add --out with a new folder")
        config = LearnConfig(
            method=method,
            text=tuple(text),
            out=out,
            vocab_size=vocab_size,
            base=_source(base),
            text_field=text_field,
            max_text_bytes=max_text_bytes,
            processes=processes,
            hidden_size=hidden_size,
            body_parameters=body_parameters,
            options=_fields(method, options) | ({"digits": digits} if digits else {}),
        )
        with finishable("learn", out):
            result = learn_to_folder(config, progress=progress_for(quiet))
    from jeton.core.run import write_atomically
    from jeton.report.html import render_html
    from jeton.report.learn_page import learn_document

    document = learn_document(result)
    write_atomically(result.folder / "report.html", render_html(document))
    if as_json:
        print_json(result)
        return
    from rich.console import Console

    from jeton.report.terminal import render_terminal

    console = Console()
    render_terminal(document, console)
    console.print(f"\ntokenizer    {result.folder / 'tokenizer.json'}", highlight=False)
    console.print(f"report       {result.folder / 'report.html'}", highlight=False)


def _fields(method: str, pairs: list[str]) -> dict[str, str]:
    """Return {field: value} of `field=value` or `method.field=value` pairs."""
    fields = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        name = name.removeprefix(f"{method}.")
        if not (equals and name and value):
            raise ConfigError(
                f"--set takes field=value, got {pair!r}", hint="for example --set min_count=2"
            )
        fields[name] = value
    return fields


def _source(name: str) -> str:
    from jeton.starter import NAMES, starter_path

    return str(starter_path(name)) if name in NAMES else name
