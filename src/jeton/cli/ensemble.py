"""`jeton ensemble`: models of different vocabularies as one, to score and to generate."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from jeton.cli.common import plain_warnings, print_json, progress_for
from jeton.errors import ConfigError

MIXES = ("conditionals", "bayes", "product")
EPILOG = """
Examples:

  jeton ensemble starter starter-draft --text book.txt

  jeton ensemble ./model-a ./model-b --mix bayes --prompt "Once upon a ti" --seed 1
"""


@dataclass(frozen=True)
class EnsembleScore:
    """Bits per byte of an ensemble and of its models.

    Attributes:
        models: Names.
        mix: How they are put together.
        num_bytes: Of the text.
        bits_per_byte: Of the ensemble.
        alone: Of each model.
        gain: Bits per byte less than the best model alone.
    """

    models: list[str]
    mix: str
    num_bytes: int
    bits_per_byte: float
    alone: list[float]
    gain: float


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(ensemble)


def ensemble(
    models: list[str] = typer.Argument(..., help="Two or more folders or hub names."),
    mix: str = typer.Option("conditionals", help="conditionals, bayes or product."),
    weights: str = typer.Option("", help="One number for each model, as in 1,2; empty: equal."),
    text: list[str] = typer.Option([], "--text", help="Score this file or folder."),
    prompt: str = typer.Option("", "--prompt", "-p", help="Continue this; '-' reads stdin."),
    max_bytes: int = typer.Option(200, "--max-bytes", "-n", help="Most new bytes."),
    max_text_bytes: int = typer.Option(100_000, help="Most text that is read."),
    seed: int = typer.Option(0, help="Of the sampling."),
    measure: str = typer.Option("canonical", help="canonical, all or fast."),
    html: Path | None = typer.Option(None, help="With --text: write a page with the gain."),
    dtype: str = typer.Option("auto", help="auto, float32 or bfloat16."),
    device: str = typer.Option("cpu", help="cpu or cuda."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as one JSON document."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Score or continue text with several models of any vocabularies, exact in bytes."""
    plain_warnings()
    if bool(text) == bool(prompt):
        raise ConfigError(
            "what to do with the models is not clear: --text scores, --prompt continues",
            hint="give exactly one of --text and --prompt",
        )
    if len(models) < 2:
        raise ConfigError(
            f"an ensemble takes two or more models, got {len(models)}",
            hint="jeton ensemble MODEL MODEL ...",
        )
    if mix not in MIXES:
        raise ConfigError(
            f"mix must be one of {', '.join(MIXES)}; got {mix!r}", hint="leave --mix out"
        )
    shares = _weights(weights, len(models))
    documents = _documents(text, max_text_bytes) if text else []
    from jeton.bytelm.byte_lm import ByteLM
    from jeton.bytelm.ensemble import Ensemble
    from jeton.lm.load import load_model

    found = Ensemble(
        [ByteLM(load_model(m, dtype=dtype, device=device), measure=measure) for m in models],
        mix,
        shares,
    )
    if text:
        result = _score(found, models, documents, quiet)
        if html is not None:
            _write_page(html, result)
        _print(result, as_json=as_json)
        return
    data = sys.stdin.buffer.read() if prompt == "-" else prompt.encode()
    if not data:
        raise ConfigError("the prompt is empty", hint="give at least one byte with --prompt")
    new = found.generate(data, max_bytes=max_bytes, seed=seed)
    if as_json:
        shown = new.decode("utf-8", errors="replace")
        print_json({"schema_version": 1, "models": models, "mix": mix, "text": shown})
        return
    print((data + new).decode("utf-8", errors="replace"))


def _weights(given: str, count: int) -> list[float] | None:
    if not given:
        return None
    try:
        found = [float(part) for part in given.split(",")]
    except ValueError:
        raise ConfigError(
            f"--weights takes numbers joined by commas, got {given!r}", hint="--weights 1,2"
        ) from None
    if len(found) != count:
        raise ConfigError(
            f"{count} models need {count} weights, got {len(found)}", hint="leave --weights out"
        )
    return found


def _documents(paths: list[str], limit_bytes: int) -> list[bytes]:
    from jeton.core.texts import read_texts

    found = read_texts([Path(p) for p in paths], limit_bytes=limit_bytes)
    data = [d.encode("utf-8", "surrogatepass") if isinstance(d, str) else d for d in found]
    if not any(data):
        raise ConfigError("the text to score is empty", hint="give at least one byte")
    return [d for d in data if d]


def _score(found: Any, names: list[str], documents: list[bytes], quiet: bool) -> EnsembleScore:
    from jeton.bytelm.score import score

    num_bytes = sum(map(len, documents))
    total, alone = 0.0, [0.0] * len(names)
    bars = progress_for(quiet)
    for data in bars.track(documents, len(documents), "ensemble", "document"):
        total -= float(found.score(data)[:-1].sum())
        for i, model in enumerate(found.models):
            alone[i] -= score(model, data).logprob
    bits = total / num_bytes / math.log(2)
    each = [nats / num_bytes / math.log(2) for nats in alone]
    return EnsembleScore(names, found.mix.value, num_bytes, bits, each, min(each) - bits)


def _print(result: EnsembleScore, *, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print_json({"schema_version": 1, **asdict(result)})
        return
    print(f"{result.bits_per_byte:.4f} bits per byte  (ensemble, {result.mix})")
    for name, bits in zip(result.models, result.alone, strict=True):
        print(f"{bits:.4f} bits per byte  ({name})")
    word = "less" if result.gain >= 0 else "more"
    print(f"{abs(result.gain):.4f} bits per byte {word} than the best model alone")


def _write_page(html: Path, result: EnsembleScore) -> None:
    from jeton.core.run import write_atomically
    from jeton.report.bytelm_page import ensemble_document
    from jeton.report.html import render_html

    page = ensemble_document(result.models, result.alone, {result.mix: result.bits_per_byte})
    write_atomically(html, render_html(page))
