"""The certificate of a move as a page: what it cost, the healing curve, all figures."""

from pathlib import Path

from jeton.report.document import (
    Bars,
    Block,
    Cell,
    Document,
    Figure,
    Figures,
    Lines,
    Note,
    Section,
    Table,
    Tone,
    Verdict,
)
from jeton.report.format import format_bytes, format_number, format_percent, format_ratio
from jeton.retrofit.moves.result import ModelFigures, MoveResult
from jeton.retrofit.moves.stages import GENERAL_LIMIT

_TITLES = {
    "transfer": "Transfer of {}",
    "extend": "Extended vocabulary of {}",
    "prune": "Pruned vocabulary of {}",
    "distill": "Distillation into {}",
}


def move_document(result: MoveResult) -> Document:
    """Return the page of a move."""
    lost = result.destination.bits_per_byte / result.source.bits_per_byte - 1
    more = "fewer" if lost <= 0 else "more"
    gain = result.destination.bytes_per_token / result.source.bytes_per_token
    versions = (f"{n} {result.environment.get(n, '')}" for n in ("jeton", "torch", "transformers"))
    return Document(
        title=_TITLES[result.verb].format(Path(result.source.name).name),
        subtitle=(
            f"{_sentence(result.how)}; healed by {result.heal} for "
            f"{format_number(round(result.healing_seconds))} seconds; verified on "
            f"{format_bytes(result.held_out_bytes)} of text that it never saw"
        ),
        headline=(
            f"{format_percent(abs(lost))} {more} bits per byte on your text, "
            f"{format_ratio(gain)} the bytes per token."
        ),
        verdict=_verdict(result),
        blocks=(_cards(result), *_quality(result), *_tokens(result), *_all(result)),
        footer=" · ".join(versions),
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _verdict(result: MoveResult) -> Verdict:
    if not result.regressions:
        return Verdict(
            True,
            "bits per byte on your text did not rise, and general text lost no more than "
            f"{format_percent(GENERAL_LIMIT, 0)}.",
            "Nothing became worse:",
        )
    return Verdict(False, "; ".join(result.regressions) + ".", "Worse than the source:")


def _tone(is_good: bool) -> Tone:
    return "good" if is_good else "bad"


def _cards(result: MoveResult) -> Figures:
    before, after = result.source, result.destination
    lost = after.general_bits_per_byte / before.general_bits_per_byte - 1
    agreed = result.agreement
    with_whom = "teacher" if result.teacher else "source"
    return Figures(
        [
            Figure(
                "Bits per byte, your text",
                f"{after.bits_per_byte:.3f}",
                f"before {before.bits_per_byte:.3f}",
                _tone(after.bits_per_byte <= before.bits_per_byte),
            ),
            Figure(
                "Bits per byte, general text",
                f"{after.general_bits_per_byte:.3f}",
                f"{format_percent(lost, signed=True)} against {before.general_bits_per_byte:.3f}",
                _tone(lost <= GENERAL_LIMIT),
            ),
            Figure(
                "Bytes per token",
                f"{after.bytes_per_token:.2f}",
                f"before {before.bytes_per_token:.2f}",
            ),
            Figure(
                f"Same bytes as the {with_whom}",
                format_percent(agreed.share, 0),
                f"of {agreed.continued_bytes} greedy bytes after {agreed.num_prompts} prompts, up "
                "to the first difference",
            ),
        ]
    )


def _models(result: MoveResult) -> list[tuple[str, ModelFigures]]:
    before = "student before" if result.teacher else "source"
    models = [(before, result.source), ("destination", result.destination)]
    if result.teacher:
        models.append(("teacher", result.teacher))
    return models


def _quality(result: MoveResult) -> list[Block]:
    domain = [(name, m.bits_per_byte) for name, m in _models(result)]
    general = [(name, m.general_bits_per_byte) for name, m in _models(result)]
    if result.control is not None:
        domain.append(("control", result.control.bits_per_byte))
        general.append(("control", result.control.general_bits_per_byte))
    note = ""
    if result.control is not None:
        note = (
            "The control is the model before the move, trained with cross-entropy for "
            f"{result.control.seconds:.0f} seconds on the same text."
        )
        if result.gap_closed is not None:
            closed = format_percent(result.gap_closed)
            note += f" Of the gap right after the move, healing closed {closed}."
    blocks: list[Block] = [
        Section(
            "What the model knows",
            "Bits per byte: how many bits the model needs for one byte of text. Lower is better, "
            "and unlike perplexity it can be compared between vocabularies. Every byte is counted "
            "once.",
        ),
        Bars(
            "Bits per byte",
            "bits per byte",
            [
                ("your text, held out", domain),
                (f"general text ({result.general_source})", general),
            ],
            lower_is_better=True,
            note=note,
        ),
    ]
    if len(result.healing) > 1:
        blocks.append(_curve(result))
    return blocks


def _curve(result: MoveResult) -> Lines:
    curves = [("destination", result.healing)]
    if result.control is not None and len(result.control.curve) > 1:
        curves.append(("control", result.control.curve))
    return Lines(
        "Healing",
        "seconds of training",
        "bits per byte of the text trained on",
        [(name, [p[1] for p in curve], [p[2] for p in curve]) for name, curve in curves],
        note=(
            f"Before healing: {result.bits_per_byte_at_start:.3f} bits per byte on a part of the "
            f"held-out text, where the source has {result.source_bits_per_byte_at_start:.3f}. The "
            "curve is smoothed and includes the general text that is mixed in."
        ),
    )


def _tokens(result: MoveResult) -> list[Block]:
    models = _models(result)
    return [
        Section("The same bytes in tokens"),
        Bars(
            "Bytes per token",
            "bytes per token",
            [
                ("your text, held out", [(name, m.bytes_per_token) for name, m in models]),
                ("general text", [(name, m.general_bytes_per_token) for name, m in models]),
            ],
            lower_is_better=False,
        ),
    ]


def _all(result: MoveResult) -> list[Block]:
    models = _models(result)

    def row(label: str, field: str) -> list[Cell | str | float | None]:
        return [label, *(float(getattr(m, field)) for _, m in models)]

    rows = [
        row("vocabulary", "vocab_size"),
        row("rows of the embedding", "num_embeddings"),
        row("parameters", "num_parameters"),
        row("bits per byte, your text", "bits_per_byte"),
        row("bits per byte, general text", "general_bits_per_byte"),
        row("bytes per token, your text", "bytes_per_token"),
        row("bytes per token, general text", "general_bytes_per_token"),
    ]
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.timings_s.items())
    return [
        Section("All figures", anchor="figures"),
        Table(["", *(name for name, _ in models)], rows),
        Note(
            f"{format_number(result.num_kept_tokens)} tokens are the source's, "
            f"{format_number(result.num_new_tokens)} are new. Of the embedding rows "
            f"{format_number(result.num_copied_rows)} were copied, "
            f"{format_number(result.num_composed_rows)} composed by {result.init}, "
            f"{format_number(result.num_fallback_rows)} had no parts. Healing took "
            f"{format_number(result.healing_steps)} steps over "
            f"{format_bytes(result.healing_bytes)} of text. Greedy continuations were identical "
            f"for {format_percent(result.agreement.identical, 0)} of the prompts. Stages: "
            f"{stages or 'none'}."
        ),
    ]
