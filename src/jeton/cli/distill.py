"""`jeton distill`: teach a model by another one, whatever their vocabularies, and certify it."""

import typer

from jeton.cli import moves as shared

EPILOG = """
Example:

  jeton distill starter starter-draft --text src/ --out taught --minutes 5
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(distill)


@shared.verb("init")
def distill(
    teacher: str = typer.Argument("", help="The model to learn from, with any vocabulary."),
    model: str = typer.Argument(
        "", metavar="STUDENT", help="The model that learns; keeps its vocabulary."
    ),
    heal: str = typer.Option("", help="How the student is trained; empty: alm."),
) -> None:
    """Teach a model by another one, whatever their vocabularies, and certify it."""
