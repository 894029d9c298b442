"""Pages of byte-level probabilities: surprise, prompts cut inside tokens, ensembles."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

from jeton.bytelm.bits import ByteBits
from jeton.report.document import Bars, Block, Document, Figure, Figures, HeatStrip, Lines, Note
from jeton.report.format import format_bytes, format_number
from jeton.report.html import render_html

_MOST_SHOWN = 20_000  # bytes of a strip: more is no picture any more
_COSTLIEST = 8


def surprise_document(model: str, documents: Sequence[bytes | str], result: ByteBits) -> Document:
    """Return the page of `jeton score --html`."""
    blocks: list[Block] = [
        Figures(
            (
                Figure("bits per byte", format_number(result.bits_per_byte, 4)),
                Figure("bytes", f"{result.num_bytes:,}"),
                Figure("tokens read per byte", format_number(result.nodes_per_byte)),
                Figure("bits for the ends", format_number(result.end_bits)),
            )
        )
    ]
    if result.is_upper_bound:
        blocks.append(Note("An upper bound: tokenizations of little weight were left out."))
    if result.leak_bits:
        blocks.append(Note(f"Leak: {format_number(result.leak_bits)} bits were dropped."))
    blocks += [
        Note(f"Document {number} has no probability: {reason}", "bad")
        for number, reason in result.reasons.items()
    ]
    left = _MOST_SHOWN
    given = [d.encode("utf-8", "surrogatepass") if isinstance(d, str) else d for d in documents]
    for number, (data, surprise) in enumerate(
        zip([d for d in given if d], result.surprise, strict=True), 1
    ):
        shown = min(left, len(data))
        left -= shown
        if shown:
            cut = "" if shown == len(data) else f"; the first {format_bytes(shown)} of it"
            blocks.append(
                HeatStrip(
                    f"Document {number}",
                    data[:shown],
                    surprise[:shown].tolist(),
                    "bits",
                    note=f"{format_number(float(surprise.mean()))} bits per byte{cut}",
                )
            )
    return Document(
        title=f"Surprise of {model}",
        subtitle=f"measure {result.measure}, exact in bytes",
        headline=f"{format_number(result.bits_per_byte, 4)} bits per byte.",
        blocks=tuple(blocks),
        footer="docs/bytelm.md says what each measure counts.",
    )


def surprise_page(model: str, documents: Sequence[bytes | str], result: ByteBits) -> str:
    """Return the page of `jeton score --html` as HTML."""
    return render_html(surprise_document(model, documents, result))


def bias_document(model: str, cuts: Sequence[int], bits: Mapping[str, Sequence[float]]) -> Document:
    """Return the page that shows what it costs to cut a prompt inside a token.

    Args:
        model: Its name.
        cuts: Where the prompt was cut, in bytes from the start of a token or of the text.
        bits: Bits of the next byte at each cut, by way ("naive", "healing", "exact").
    """
    means = [(way, sum(values) / max(1, len(values))) for way, values in bits.items()]
    (best, least), (worst, most) = (pick(means, key=lambda item: item[1]) for pick in (min, max))
    places = [float(cut) for cut in cuts]
    curves = [(way, places, list(accumulate(values))) for way, values in bits.items()]
    return Document(
        title=f"Prompts cut inside tokens: {model}",
        subtitle=f"bits of the next byte at {len(cuts)} cuts",
        headline=f"{best}: {format_number(least)} bits for the next byte on average, "
        f"{format_number(most - least)} less than {worst}.",
        blocks=(
            Bars("Bits of the next byte", "bits", [("", means)], lower_is_better=True),
            Lines("Added up along the text", "cut (bytes)", "bits so far", curves),
        ),
        footer="naive: the prompt's own tokens; healing: the last token is written again; "
        "exact: every token that covers the prompt's end.",
    )


def bias_page(model: str, cuts: Sequence[int], bits: Mapping[str, Sequence[float]]) -> str:
    """Return the page of `jeton score --cuts --html` as HTML."""
    return render_html(bias_document(model, cuts, bits))


def ensemble_document(
    names: Sequence[str], alone: Sequence[float], mixes: dict[str, float]
) -> Document:
    """Return the page of an ensemble: bits per byte of each model and of each mix."""
    bars = [*zip(names, alone, strict=True), *mixes.items()]
    gain = min(alone) - min(mixes.values())
    headline = (
        f"{format_number(gain)} bits per byte less than the best model alone."
        if gain > 0
        else f"{format_number(-gain)} bits per byte more than the best model alone."
    )
    return Document(
        title="Ensemble of " + ", ".join(names),
        headline=headline,
        blocks=(Bars("Bits per byte", "bits per byte", [("", bars)], lower_is_better=True),),
        footer="Models of different vocabularies share the bytes of the text.",
    )
