"""`jeton retrofit`: the main job."""

import typer

from jeton.cli import moves as shared

EPILOG = """
Examples:

  jeton retrofit starter --text src/ --out out --minutes 2

  jeton retrofit ./my-model --text corpus.jsonl --general wiki.txt --out adapted

  jeton retrofit --resume out
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(retrofit)


@shared.verb("control", "language")
def retrofit(
    model: str = shared.MODEL,
    learner: str = typer.Option(
        "auto",
        help="How the vocabulary is learned; auto extends a BPE that has all bytes, else bpe.",
    ),
    vocab_size: int = typer.Option(0, help="Size of the new vocabulary; 0: the learner's default."),
    init: str = typer.Option("auto", help="How new embedding rows start; auto: zett or mean."),
    heal: str = typer.Option("cross_entropy", help="How the model is trained on them."),
    drafter: str = typer.Option(
        "prompt_lookup", help="Drafter of the speculative figures, or a file of tune-decoding."
    ),
) -> None:
    """Learn a vocabulary for your text, move a model onto it, heal it, certify it."""
