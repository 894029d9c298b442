"""The page of a learned vocabulary: what it gives, what each size would have given."""

import textwrap

from jeton.learn.run import LearnResult
from jeton.report.document import (
    Block,
    Cell,
    Code,
    Document,
    Figure,
    Figures,
    Lines,
    Note,
    Section,
    Table,
)
from jeton.report.format import format_bytes, format_number, format_percent


def learn_document(result: LearnResult) -> Document:
    """Return the page of a learned vocabulary."""
    own = result.bytes_per_token
    before = result.source_bytes_per_token
    detail = f"{format_number(before)} with the base" if before else "on the text learned from"
    cards = [
        Figure("Bytes per token", format_number(own), detail),
        Figure("Tokens", f"{result.vocab_size:,}", f"{result.num_kept:,} of them the base's"),
        Figure("Text", format_bytes(result.num_bytes), f"learned in {result.seconds:.1f} s"),
    ]
    blocks: list[Block] = [Figures(cards)]
    blocks += [Note(note) for note in result.notes]
    blocks += _sizes(result) if result.sizes else _curve(result)
    blocks += [
        Section("The longest tokens", "Tokens that hold a whole line or a licence text are a sign "
                "of text that repeats itself."),
        Code(textwrap.fill("  ".join(repr(token) for token in result.examples), 76)),
    ]  # fmt: skip
    gain = f", {format_percent(own / before - 1, 0)} more than the base" if before else ""
    return Document(
        title=f"A vocabulary of {result.vocab_size:,} tokens by {result.method}",
        subtitle=f"learned from {format_bytes(result.num_bytes)} of text",
        headline=f"{format_number(own)} bytes per token on the text that was learned from{gain}.",
        blocks=tuple(blocks),
        footer=f"AutoTokenizer.from_pretrained({str(result.folder)!r}) loads it. docs/learn.md "
        "describes the method.",
    )


def _sizes(result: LearnResult) -> list[Block]:
    best = min(result.sizes, key=lambda choice: choice.parameters_per_byte)
    rows: list[list[Cell | str | float | None]] = [
        [
            f"{choice.vocab_size:,}",
            Cell(choice.bytes_per_token),
            Cell(f"{choice.parameters_per_byte:,.0f}", "good" if choice is best else "neutral"),
        ]
        for choice in result.sizes
    ]
    sizes = [float(choice.vocab_size) for choice in result.sizes]
    is_last = best is result.sizes[-1]
    more = "The greatest size that was tried is the best; with more text a greater one may pay."
    return [
        Section("Which size pays", "A forward pass reads the body and the output matrix once per "
                "token. A greater vocabulary pays as long as the parameters read per byte of text "
                "fall; measured on text held out from learning."),
        Lines("Bytes per token", "tokens in the vocabulary", "bytes per token",
              [("held-out text", sizes, [c.bytes_per_token for c in result.sizes])], log_x=True),
        Table(["tokens", "bytes per token", "parameters per byte"], rows,
              f"chosen: {best.vocab_size:,}"),
        *([Note(more)] if is_last else []),
    ]  # fmt: skip


def _curve(result: LearnResult) -> list[Block]:
    if len(result.curve) < 2:
        return []
    sizes = [float(point.vocab_size) for point in result.curve]
    rates = [point.bytes_per_token for point in result.curve]
    return [
        Section("What a smaller vocabulary would have given"),
        Lines("Bytes per token", "tokens in the vocabulary", "bytes per token",
              [("text that was learned from", sizes, rates)]),
    ]  # fmt: skip
