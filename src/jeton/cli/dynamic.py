"""`jeton dynamic`: what it costs a model to read text with fewer, joined tokens."""

from dataclasses import asdict
from pathlib import Path

import typer

from jeton.cli.common import options_of, parse_options, plain_warnings, print_json, progress_for
from jeton.errors import ConfigError

EPILOG = """
Examples:

  jeton dynamic starter --text book.txt --max-windows 4

  jeton dynamic starter --text book.txt --network mean --merges 200 --set dynamic.scope=any
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(dynamic)


def dynamic(
    model: str = typer.Argument(help="Folder or hub name of a causal LM, or 'starter'."),
    text: list[Path] = typer.Option([], "--text", help="File or folder of text; repeatable."),
    network: str = typer.Option(
        "",
        help="Folder of a hypernetwork, see `jeton hypernetwork`; 'mean' takes the mean of the "
        "parts instead; the starter model has one of its own.",
    ),
    merges: list[int] = typer.Option([100, 200, 400], help="Most merges of a batch; repeatable."),
    read: int = typer.Option(512, help="Tokens of a window that are read."),
    scored: int = typer.Option(128, help="Tokens behind them that are scored."),
    batch: int = typer.Option(8, help="Windows that share their merges."),
    max_windows: int = typer.Option(64, help="Most windows."),
    dtype: str = typer.Option("auto", help="auto, float32, bfloat16 or float16."),
    max_text_bytes: int = typer.Option(20_000_000, help="Most text that is read."),
    options: list[str] = typer.Option(
        [], "--set", help="Field of the joining: dynamic.field=value; repeatable."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the result as one JSON document."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Measure reading with joined tokens: how many are saved, and what the next bytes cost."""
    plain_warnings()
    from jeton.core.registry import construct
    from jeton.core.texts import read_texts
    from jeton.lm.load import load_model
    from jeton.transfer.dynamic import DynamicOptions, reader_for
    from jeton.transfer.dynamic_bits import PrefillOptions, measure_prefill

    given = options_of("dynamic", parse_options(options))
    settings = construct("dynamic", DynamicOptions, dict(given))
    windows = PrefillOptions(read=read, scored=scored, batch=batch, max_windows=max_windows)
    if min(merges) < 0:
        raise ConfigError(f"--merges must be 0 or more, got {min(merges)}")
    documents = list(read_texts(text, limit_bytes=max_text_bytes))
    lm = load_model(model, dtype=dtype)
    reader = reader_for(lm, network, settings)
    result = measure_prefill(reader, documents, merges, windows, progress_for(quiet))
    if as_json:
        print_json({"schema_version": 1, "model": lm.name, **asdict(result)})
        return
    print(
        f"{result.bits_per_byte:.4f} bits per byte after {read} tokens  "
        f"({lm.name}, {result.num_windows} windows, {result.num_bytes:,} bytes)"
    )
    print("merges  tokens saved  read joined  read only the last ones")
    for point in result.points:
        print(
            f"{point.num_merges:6}  {point.reduction:12.1%}  {point.bits_per_byte:11.4f}  "
            f"{point.cut_bits_per_byte:23.4f}"
        )
