"""`jeton atlas`: many tokenizers over many languages, as a table, JSON or a page."""

from pathlib import Path

import typer

from jeton.cli.common import plain_warnings, print_json, progress_for

EPILOG = """
Examples:

  jeton atlas --html atlas.html

  jeton atlas gpt2/ qwen/ --parallel udhr/ --html atlas.html

  jeton atlas my-tokenizer/ --parallel udhr/ --known
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(atlas)


def atlas(
    tokenizers: list[str] = typer.Argument(
        None, help="Tokenizer files or folders, or 'starter'; none: the figures that jeton ships."
    ),
    parallel: Path | None = typer.Option(
        None, help="Folder with a .txt file per language; line i is the same passage in each."
    ),
    reference: str = typer.Option("", help="Language to compare with; English by default."),
    known: bool = typer.Option(
        False, "--known", help="Add the shipped figures; only for the UDHR text they come from."
    ),
    html: Path | None = typer.Option(None, help="Write the page here."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as one JSON document."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Compare tokenizers over the languages of a parallel text."""
    plain_warnings()
    from jeton.audit.atlas import atlas as run
    from jeton.audit.atlas import shipped_atlas
    from jeton.audit.sources import read_parallel
    from jeton.cli.audit import named_source
    from jeton.core.run import write_atomically
    from jeton.core.vocabulary import load_vocabulary
    from jeton.errors import ConfigError
    from jeton.report.atlas_page import atlas_document

    if parallel is None:
        if tokenizers:
            raise ConfigError(
                "to measure a tokenizer the atlas needs parallel text",
                hint="--parallel DIR with a .txt file per language, such as the UDHR articles of "
                "github.com/wooorm/udhr; without tokenizers the shipped figures are shown",
            )
        result = shipped_atlas(reference)
    elif not tokenizers:
        raise ConfigError("no tokenizer was given", hint="jeton atlas TOKENIZER... --parallel DIR")
    else:
        texts = read_parallel(parallel)
        vocabularies = [load_vocabulary(named_source(name)) for name in tokenizers]
        result = run(
            vocabularies, texts, reference=reference, known=known, progress=progress_for(quiet)
        )
    if html is not None:
        from jeton.report.html import render_html

        write_atomically(html, render_html(atlas_document(result)))
    if as_json:
        print_json(result)
        return
    from rich.console import Console

    from jeton.report.terminal import render_terminal

    render_terminal(atlas_document(result), Console())
    if html is not None:
        print(f"\nreport       {html}")
