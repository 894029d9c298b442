"""The certificate of a move as a page: what it cost, the healing curve, all figures."""

from jeton.report.document import Document, Figure, Figures
from jeton.report.format import format_bytes, format_number, format_percent, format_ratio
from jeton.retrofit import blocks
from jeton.retrofit.moves.result import MoveResult
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
    models = _models(result)
    control = result.control
    compared = (control.bits_per_byte, control.general_bits_per_byte) if control else None
    curves = [("control", control.curve)] if control else []
    agreed = format_percent(result.agreement.identical, 0)
    return Document(
        title=_TITLES[result.verb].format(blocks.short_name(result.source.name)),
        subtitle=(
            f"{_sentence(result.how)}; {_healed(result)}; verified on "
            f"{format_bytes(result.held_out_bytes)} of text that it never saw"
        ),
        headline=(
            f"{format_percent(abs(lost))} {more} bits per byte on your text, "
            f"{format_ratio(gain)} the bytes per token."
        ),
        verdict=blocks.verdict(
            result,
            "bits per byte on your text did not rise, and general text lost no more than "
            f"{format_percent(GENERAL_LIMIT, 0)}.",
        ),
        blocks=(
            Figures([*blocks.bits_cards(result, GENERAL_LIMIT), *_more_cards(result)]),
            *blocks.quality(result, models, compared, _about_control(result)),
            *blocks.healing_curve(result, models, *curves),
            *blocks.bytes_per_token("The same bytes in tokens", models),
            *blocks.all_figures(
                result,
                models,
                [],
                f"Greedy continuations were identical for {agreed} of the prompts. ",
            ),
        ),
        footer=blocks.footer(result),
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _healed(result: MoveResult) -> str:
    if not result.healing_steps:
        return "not healed"
    seconds = format_number(round(result.healing_seconds))
    if result.teacher is not None:
        name = blocks.short_name(result.teacher.name)
        return f"taught by {name} with {result.heal} for {seconds} seconds"
    return f"healed by {result.heal} for {seconds} seconds"


def _more_cards(result: MoveResult) -> list[Figure]:
    agreed = result.agreement
    with_whom = "teacher" if result.teacher else "source"
    return [
        Figure(
            "Bytes per token",
            f"{result.destination.bytes_per_token:.2f}",
            f"before {result.source.bytes_per_token:.2f}",
        ),
        Figure(
            f"Same bytes as the {with_whom}",
            format_percent(agreed.share, 0),
            f"of {agreed.continued_bytes} greedy bytes after {agreed.num_prompts} prompts, up "
            "to the first difference",
        ),
    ]


def _models(result: MoveResult) -> blocks.Models:
    if result.teacher is None:
        return [("source", result.source), ("destination", result.destination)]
    return [
        ("student before", result.source),
        ("student after", result.destination),
        ("teacher", result.teacher),
    ]


def _about_control(result: MoveResult) -> str:
    if result.control is None:
        return ""
    before, moved = "the model before the move", "destination"
    if result.teacher is not None:
        before, moved = "another copy of the student", "student"
    note = (
        f"The control is {before}, trained with cross-entropy for {result.control.seconds:.0f} "
        "seconds on the same text."
    )
    more = result.destination.bits_per_byte / result.control.bits_per_byte - 1
    note += (
        f" On your text the {moved} needs {format_percent(abs(more))} "
        f"{'more' if more > 0 else 'fewer'} bits per byte than the control."
    )
    closed = result.gap_closed
    if closed is not None and closed >= 0:
        note += f" Of the gap right after the move, healing closed {format_percent(closed)}."
    elif closed is not None:
        note += (
            f" In this time the control gained more than the {moved}, so that the gap right "
            f"after the move grew by {format_percent(-closed)}."
        )
    return note
