"""`jeton transfer`: move a model onto another vocabulary, heal it, certify it."""

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


@shared.verb()
def transfer(
    model: str = shared.MODEL,
    to: str = typer.Option(
        "", help="A tokenizer or model folder, bytes, or a method that learns a vocabulary."
    ),
    recipe: str = typer.Option(
        "",
        help="A published recipe, which brings its own --init and --heal; see jeton methods "
        "--room recipes.",
    ),
    vocab_size: int = typer.Option(
        0, help="Size of a vocabulary that is learned; 0: the source's."
    ),
) -> None:
    """Move a model onto another vocabulary, heal it, certify it."""
