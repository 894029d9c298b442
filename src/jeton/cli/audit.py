"""`jeton audit`: what a tokenizer does to a text, as a table, JSON or a page."""

from pathlib import Path

import typer

from jeton.cli.common import plain_warnings, print_json, progress_for

EPILOG = """
Examples:

  jeton audit starter --text src/

  jeton audit gpt2/ --against qwen/ --text corpus/ --html audit.html

  jeton audit gpt2/ --parallel udhr/ --fail-on "premium>3,dead>0"

  jeton audit my-model/ --model my-model/ --text notes.md
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(audit)


def audit(
    tokenizer: str = typer.Argument(..., help="Tokenizer file or folder, or 'starter'."),
    text: list[Path] = typer.Option(
        [], "--text", help="File or folder; several are groups of their own; repeatable."
    ),
    parallel: Path | None = typer.Option(
        None, help="Folder with a .txt file per language; line i is the same passage in each."
    ),
    reference: str = typer.Option("", help="Language to compare with; English by default."),
    against: str = typer.Option("", help="Another tokenizer to compare with."),
    model: str = typer.Option("", help="Model to ask: folder or hub name, or 'starter'."),
    lexicon: Path | None = typer.Option(None, help="Words of the language, one per line."),
    morphemes: Path | None = typer.Option(None, help="Roots and affixes, one per line."),
    segmentation: Path | None = typer.Option(
        None, help="Words with their morphemes: word, tab, morphemes with spaces between."
    ),
    metric: list[str] = typer.Option([], help="Only these metrics; repeatable."),
    max_text_bytes: int = typer.Option(5_000_000, help="Most text that is read."),
    fail_on: str = typer.Option(
        "", help="Conditions that end with exit code 3, as 'premium>3,dead>0'."
    ),
    html: Path | None = typer.Option(None, help="Write the page here."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as one JSON document."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Measure a tokenizer: alone, on your text, over languages, with its model."""
    plain_warnings()
    from jeton.audit.conditions import check, parse_fail_on
    from jeton.audit.evidence import AuditInput
    from jeton.audit.run import audit as run
    from jeton.audit.sources import read_groups, read_lexicon, read_parallel, read_segmentation
    from jeton.core.run import write_atomically
    from jeton.core.vocabulary import load_vocabulary
    from jeton.errors import ConfigError
    from jeton.report.audit_page import audit_document

    conditions = parse_fail_on(fail_on) if fail_on else []
    if morphemes is not None and lexicon is None:
        raise ConfigError("--morphemes add to the words of a lexicon", hint="give --lexicon too")
    vocabulary = load_vocabulary(named_source(tokenizer))
    other = load_vocabulary(named_source(against)) if against else None
    texts = read_groups(text, max_text_bytes) if text else {}
    aligned = read_parallel(parallel) if parallel is not None else {}
    if reference and reference not in aligned:
        known = ", ".join(sorted(aligned)) or "none; give --parallel"
        raise ConfigError(f"there is no language {reference!r}; there are: {known}")
    given = AuditInput(
        vocabulary,
        lexicon=read_lexicon(lexicon, morphemes) if lexicon is not None else None,
        segmentation=read_segmentation(segmentation) if segmentation is not None else None,
    )
    if model:
        from jeton.audit.model import with_model

        given = with_model(given, str(named_source(model)))
    result = run(
        vocabulary,
        texts,
        given=given,
        parallel=aligned,
        reference=reference,
        against=other,
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


def named_source(name: str) -> str | Path:
    """Return the path of a model that comes with jeton, or the name itself."""
    from jeton.starter import NAMES, starter_path

    return starter_path(name) if name in NAMES else name
