"""`jeton extend`: add tokens of your text to a model's vocabulary, heal it, certify it."""

import typer

from jeton.cli import moves as shared

EPILOG = """
Example:

  jeton extend starter --text src/ --num-tokens 2048 --out extended --minutes 2
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(extend)


@shared.verb()
def extend(
    model: str = shared.MODEL,
    num_tokens: int = typer.Option(0, help="Tokens to add; 0: the share --growth."),
    growth: float = typer.Option(0.0, help="Tokens to add as a share of the vocabulary; 0: 0.25."),
) -> None:
    """Add tokens of your text to a model's vocabulary, heal it, certify it."""
