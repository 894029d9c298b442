"""`jeton audit`: what a tokenizer does to a text, as a table, JSON or a page."""

from pathlib import Path

import typer

from jeton.cli.common import plain_warnings, print_json, progress_for

EPILOG = """
Examples:

  jeton audit starter --text src/

  jeton audit gpt2/ --against qwen/ --text corpus/ --html audit.html

  jeton audit ./tokenizer --text notes.md --fail-on "dead>0,bytes_per_token<3"
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(audit)


def audit(
    tokenizer: str = typer.Argument(..., help="Tokenizer file or folder, or 'starter'."),
    text: list[Path] = typer.Option(..., "--text", help="File or folder; repeatable."),
    against: str = typer.Option("", help="Another tokenizer to compare with."),
    metric: list[str] = typer.Option([], help="Only these metrics; repeatable."),
    max_text_bytes: int = typer.Option(5_000_000, help="Most text that is read."),
    fail_on: str = typer.Option("", help="Conditions that end with exit code 3, as 'dead>0'."),
    html: Path | None = typer.Option(None, help="Write the page here."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as one JSON document."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Measure a tokenizer on your text."""
    plain_warnings()
    from jeton.audit.conditions import check, parse_fail_on
    from jeton.audit.run import audit as run
    from jeton.core.run import write_atomically
    from jeton.core.texts import read_texts
    from jeton.core.vocabulary import load_vocabulary
    from jeton.report.audit_page import audit_document

    conditions = parse_fail_on(fail_on) if fail_on else []
    texts = list(read_texts(text, limit_bytes=max_text_bytes))
    result = run(
        load_vocabulary(_source(tokenizer)),
        texts,
        against=load_vocabulary(_source(against)) if against else None,
        metrics=metric or None,
        progress=progress_for(quiet),
    )
    failures = check(result, conditions)
    if html is not None:
        from jeton.report.html import render_html

        write_atomically(html, render_html(audit_document(result)))
    if as_json:
        print_json(result)
    else:
        from rich.console import Console

        from jeton.report.terminal import render_terminal

        render_terminal(audit_document(result), Console())
        if html is not None:
            print(f"\nreport       {html}")
    for failure in failures:
        typer.echo(f"failed: {failure}", err=True)
    if failures:
        raise typer.Exit(3)


def _source(name: str) -> str | Path:
    from jeton.starter import NAMES, starter_path

    return starter_path(name) if name in NAMES else name
