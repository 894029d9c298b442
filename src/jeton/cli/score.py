"""`jeton score`: bits per byte of a text under a model."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from jeton.cli.common import plain_warnings, print_json, progress_for
from jeton.errors import ConfigError

MEASURES = ("tokens", "canonical", "all", "fast")
EPILOG = """
Examples:

  jeton score starter --text book.txt

  jeton score starter --text book.txt --measure canonical --html surprise.html

  jeton score starter --text book.txt --measure canonical --cuts 64 --html bias.html

  echo "Once upon a time" | jeton score starter --text -
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog=EPILOG)(score)


def score(
    model: str = typer.Argument(..., help="Folder or hub name of a causal LM, or 'starter'."),
    text: list[str] = typer.Option(..., "--text", help="File or folder; '-' reads stdin."),
    stride: int = typer.Option(0, help="Tokens scored per window; 0: half the context."),
    context: int = typer.Option(0, help="Tokens per window; 0: the model's, at most 2048."),
    max_text_bytes: int = typer.Option(10_000_000, help="Most text that is read."),
    measure: str = typer.Option(
        "tokens",
        help="tokens: windows of the tokenizer's own encoding; canonical, all or fast: exact in "
        "bytes, see docs/bytelm.md.",
    ),
    html: Path | None = typer.Option(None, help="Write a page with the surprise of each byte."),
    cuts: int = typer.Option(
        0, help="With --measure: cut the text at so many bytes; the next byte naive and exact."
    ),
    dtype: str = typer.Option("auto", help="auto, float32 or bfloat16."),
    device: str = typer.Option("cpu", help="cpu or cuda."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as one JSON document."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress."),
) -> None:
    """Print how many bits a model needs per byte of text; comparable across vocabularies."""
    plain_warnings()
    documents = _documents(text, max_text_bytes)
    from jeton.lm.bits import bits_per_byte
    from jeton.lm.load import load_model

    if measure not in MEASURES:
        raise ConfigError(
            f"measure must be one of {', '.join(MEASURES)}; got {measure!r}",
            hint="leave --measure out for windows of tokens",
        )
    if html is not None and measure == "tokens":
        raise ConfigError(
            "--html shows single bytes, which windows of tokens do not give",
            hint="add --measure canonical",
        )
    if measure != "tokens" and (stride or context):
        raise ConfigError(
            f"--stride and --context have no meaning with --measure {measure}",
            hint="leave them out",
        )
    if cuts and measure == "tokens":
        raise ConfigError("--cuts compares with exact bytes", hint="add --measure canonical")
    if cuts < 0:
        raise ConfigError(f"--cuts must be 0 or more, got {cuts}")
    lm = load_model(model, dtype=dtype, device=device)
    if cuts:
        _score_cuts(lm, documents, measure, cuts, html, as_json=as_json, quiet=quiet)
        return
    if measure != "tokens":
        _score_bytes(lm, documents, measure, html, as_json=as_json, quiet=quiet)
        return
    result = bits_per_byte(
        lm,
        documents,
        stride=stride or None,
        context=context or None,
        progress=progress_for(quiet),
    )
    if as_json:
        print_json({"schema_version": 1, "model": lm.name, **asdict(result)})
        return
    print(f"{result.bits_per_byte:.4f} bits per byte  ({lm.name})")
    print(
        f"{result.num_bytes:,} bytes in {result.num_tokens:,} tokens, "
        f"{result.bytes_per_token:.3f} bytes per token"
    )
    print(
        f"windows of {result.context} tokens, {result.stride} scored in each; "
        f"first token: {result.first_token}"
    )


def _score_bytes(
    lm: Any, documents: list[Any], measure: str, html: Path | None, *, as_json: bool, quiet: bool
) -> None:
    """Score under a measure of bytes."""
    from jeton.bytelm.bits import measure_bits
    from jeton.bytelm.byte_lm import ByteLM

    result = measure_bits(ByteLM(lm, measure=measure), documents, progress_for(quiet))
    if html is not None:
        from jeton.report.bytelm_page import surprise_page

        html.write_text(surprise_page(lm.name, documents, result), encoding="utf-8")
    if as_json:
        document = asdict(result)
        del document["surprise"]
        print_json({"schema_version": 1, "model": lm.name, **document})
        return
    note = ", an upper bound" if result.is_upper_bound else ""
    print(f"{result.bits_per_byte:.4f} bits per byte  ({lm.name}, {measure}{note})")
    print(
        f"{result.num_bytes:,} bytes, {result.nodes_per_byte:.3f} tokens read per byte, "
        f"{result.end_bits:.2f} bits for the end"
    )
    if result.leak_bits:
        print(f"leak: {result.leak_bits:.2f} bits were dropped with other tokenizations")
    for number, reason in result.reasons.items():
        print(f"document {number} has no probability: {reason}")


def _score_cuts(
    lm: Any,
    documents: list[Any],
    measure: str,
    cuts: int,
    html: Path | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Cut the first document inside its tokens and compare ways to go on."""
    from jeton.bytelm.cut_bits import measure_cuts
    from jeton.report.bytelm_page import bias_page

    first = next((d for d in documents if d), b"")
    data = first.encode("utf-8", "surrogatepass") if isinstance(first, str) else first
    found = measure_cuts(lm, data, num_cuts=cuts, measure=measure, progress=progress_for(quiet))
    if html is not None:
        html.write_text(bias_page(lm.name, found.cuts, found.ways()), encoding="utf-8")
    if as_json:
        print_json({"schema_version": 1, "model": lm.name, "measure": measure, **asdict(found)})
        return
    print(f"bits of the next byte at {len(found.cuts)} cuts  ({lm.name}, {measure})")
    for way, bits in found.ways().items():
        print(f"{way:8} {sum(bits) / len(bits):8.4f}")


def _documents(paths: list[str], limit_bytes: int) -> list[str | bytes]:
    """Return the documents of files and folders, or what stands on stdin."""
    import sys

    from jeton.core.texts import read_texts

    if "-" in paths:
        if len(paths) > 1:
            raise ConfigError("'-' cannot be combined with files", hint="give one or the other")
        return [sys.stdin.buffer.read(limit_bytes)]
    return list(read_texts([Path(p) for p in paths], limit_bytes=limit_bytes))
