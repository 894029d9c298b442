"""`jeton hypernetwork`: train the network of ZeTT for a base model."""

from pathlib import Path

import typer

from jeton.cli.common import options_of, parse_options, plain_warnings, print_json, progress_for
from jeton.errors import ConfigError

EPILOG = """
Examples:

  jeton hypernetwork starter --text corpus/ --out net

  jeton transfer starter --to tokenizer/ --init zett --set zett.hypernetwork=net --out moved
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(hypernetwork)


def hypernetwork(
    model: str = typer.Argument(help="Folder or hub name of a causal LM, or 'starter'."),
    text: list[Path] = typer.Option([], "--text", help="File or folder of text; repeatable."),
    out: Path = typer.Option(..., help="Folder of the network; a killed run there is continued."),
    steps: int = typer.Option(1500, help="Training steps on text."),
    dtype: str = typer.Option("float32", help="Of the model while it is run."),
    seed: int = typer.Option(0, help="Of everything random."),
    max_text_bytes: int = typer.Option(50_000_000, help="Most text that is read."),
    options: list[str] = typer.Option(
        [], "--set", help="Field of the training: zett.field=value; repeatable."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the result as one JSON document."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Train a hypernetwork that gives a model the rows of any tokenizer (ZeTT)."""
    plain_warnings()
    from jeton.core.registry import construct
    from jeton.core.run import disk_errors, to_json
    from jeton.core.texts import read_texts
    from jeton.lm.load import load_model
    from jeton.transfer.zett_training import ZettTraining, train_hypernetwork

    given = options_of("zett", parse_options(options))
    settings = construct("zett", ZettTraining, {"steps": steps, **given})
    if (out / "model.safetensors").is_file():
        raise ConfigError(f"{out} already holds a network", hint="choose another --out")
    documents = list(read_texts(text, limit_bytes=max_text_bytes))
    lm = load_model(model, dtype=dtype)
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "training.pt"
    network, result = train_hypernetwork(
        lm.model,
        lm.vocabulary,
        documents,
        settings,
        seed=seed,
        checkpoint=checkpoint,
        progress=progress_for(quiet),
    )
    network.save(out, {"model": model, "steps": result.steps})
    checkpoint.unlink(missing_ok=True)
    if as_json:
        print_json({"schema_version": 1, "out": out, **to_json(result)})
    else:
        bits = f", {result.curve[-1][1]:.3f} bits per byte" if result.curve else ""
        print(f"{out}: {result.steps} steps in {result.seconds:.0f} s{bits}")
