"""`jeton prune`: take away the tokens that your text does not need, heal the model, certify it."""

import typer

from jeton.cli import moves as shared

EPILOG = """
Example:

  jeton prune starter --text src/ --out pruned --steps 0
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(prune)


@shared.verb()
def prune(
    model: str = shared.MODEL,
    vocab_size: int = typer.Option(0, help="Tokens that stay; 0: all that your text needs."),
) -> None:
    """Take away the tokens that your text does not need, heal the model, certify it."""
