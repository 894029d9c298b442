"""`jeton sinks`: which heads of a model rest on the first tokens."""

from pathlib import Path

import typer

from jeton.cli.common import check_page, plain_warnings, print_json, progress_for
from jeton.errors import ConfigError

EPILOG = """
Examples:

  jeton sinks starter --text book.txt

  jeton sinks starter --text book.txt --sinks 4 --html sinks.html
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(sinks)


def sinks(
    model: str = typer.Argument(..., help="Folder or hub name of a causal LM, or 'starter'."),
    text: list[Path] = typer.Option(..., "--text", help="File or folder."),
    num_sinks: int = typer.Option(1, "--sinks", help="First tokens of a window that count."),
    window: int = typer.Option(256, help="Tokens read at once."),
    windows: int = typer.Option(8, help="Most windows that are read."),
    html: Path | None = typer.Option(None, help="Write the page here."),
    dtype: str = typer.Option("auto", help="auto, float32 or bfloat16."),
    device: str = typer.Option("cpu", help="cpu or cuda."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as one JSON document."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Show which heads rest on the first tokens: attention, value norms, residual peaks."""
    plain_warnings()
    check_page(html)
    from jeton.core.texts import read_texts

    if windows < 1 or window < 1:
        raise ConfigError(f"--window and --windows must be at least 1, got {window} and {windows}")
    documents = list(read_texts(text, limit_bytes=64 * window * windows))
    from jeton.kv.sinks import measure_sinks
    from jeton.lm.load import load_model
    from jeton.report.sinks_page import sinks_document

    lm = load_model(model, dtype=dtype, device=device)
    token_ids = lm.vocabulary.encode("".join(documents))
    result = measure_sinks(
        lm.model,
        token_ids,
        name=lm.name,
        sinks=num_sinks,
        window=window,
        max_windows=windows,
        progress=progress_for(quiet),
    )
    if html is not None:
        from jeton.core.run import write_atomically
        from jeton.report.html import render_html

        write_atomically(html, render_html(sinks_document(result)))
    if as_json:
        print_json(result)
        return
    from rich.console import Console

    from jeton.report.terminal import render_terminal

    render_terminal(sinks_document(result), Console())
    if html is not None:
        print(f"\nreport       {html}")
