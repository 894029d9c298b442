"""The certificate as a page: a headline, what it gains, what it costs, how it was done."""

from jeton.report.document import Bars, Block, Document, Figure, Figures, Section, TokenStrip
from jeton.report.format import format_bytes, format_number, format_percent, format_ratio
from jeton.retrofit import blocks
from jeton.retrofit.result import RetrofitResult
from jeton.retrofit.stages import GENERAL_LIMIT


def retrofit_document(result: RetrofitResult) -> Document:
    """Return the page of a retrofit."""
    source, destination = result.source, result.destination
    gain = destination.bytes_per_token / source.bytes_per_token
    faster = destination.speed.speculative_bytes_per_second / source.speed.bytes_per_second
    models = [("source", source), ("destination", destination)]
    return Document(
        title=f"Retrofit of {blocks.short_name(source.name)}",
        subtitle=(
            f"{result.num_kept_tokens:,} tokens kept, {result.num_new_tokens:,} learned; "
            f"verified on {format_bytes(result.held_out_bytes)} of text that neither learning nor "
            "healing saw"
        ),
        headline=(
            f"{format_ratio(gain)} the bytes per token, {format_ratio(faster)} the bytes per "
            "second, the same bytes."
        ),
        verdict=blocks.verdict(
            result,
            "bits per byte on your text did not rise, general text lost no more than "
            f"{format_percent(GENERAL_LIMIT, 0)}, and every speed grew.",
            f"Healing so far: {format_number(result.healing_steps)} steps over "
            f"{format_bytes(result.healing_bytes)} of text.",
        ),
        blocks=(
            _cards(result, gain, faster),
            *blocks.quality(result, models),
            *blocks.healing_curve(result, models),
            *_speed(result),
            *blocks.bytes_per_token("The same bytes in fewer tokens", models),
            TokenStrip(
                "A piece of your text, cut by both",
                [
                    (f"source ({blocks.short_name(source.name)})", result.strip[0]),
                    ("destination", result.strip[1]),
                ],
            ),
            *blocks.all_figures(result, models, _speed_rows(result), ""),
        ),
        footer=blocks.footer(result),
    )


def _cards(result: RetrofitResult, gain: float, faster: float) -> Figures:
    before, after = result.source, result.destination
    return Figures(
        [
            Figure(
                "Bytes per token",
                format_ratio(gain),
                f"{before.bytes_per_token:.2f} → {after.bytes_per_token:.2f}",
                blocks.tone(gain > 1),
            ),
            *blocks.bits_cards(result, GENERAL_LIMIT),
            Figure(
                "Bytes per second",
                format_ratio(faster),
                f"{before.speed.bytes_per_second:,.0f} plain → "
                f"{after.speed.speculative_bytes_per_second:,.0f} with {result.drafter}",
                blocks.tone(faster > 1),
            ),
        ]
    )


def _speed(result: RetrofitResult) -> list[Block]:
    before, after = result.source.speed, result.destination.speed
    return [
        Section(
            "How fast it decodes",
            "Held-out text is decoded token by token, plain and with a drafter whose guesses are "
            "verified, so that the output stays the same. Both models ran in turn on the same "
            "text; medians.",
        ),
        Bars(
            "Decoding speed",
            "bytes per second",
            [
                (
                    "plain",
                    [("source", before.bytes_per_second), ("destination", after.bytes_per_second)],
                ),
                (
                    f"with {result.drafter}",
                    [
                        ("source", before.speculative_bytes_per_second),
                        ("destination", after.speculative_bytes_per_second),
                    ],
                ),
            ],
            lower_is_better=False,
            note=(
                f"Tokens per step with {result.drafter}: source {before.tokens_per_step:.2f}, "
                f"destination {after.tokens_per_step:.2f}."
            ),
        ),
    ]


def _speed_rows(result: RetrofitResult) -> blocks.Rows:
    speeds = [side.speed for side in (result.source, result.destination)]
    return [
        ["bytes per second, plain", *(s.bytes_per_second for s in speeds)],
        [
            f"bytes per second, {result.drafter}",
            *(s.speculative_bytes_per_second for s in speeds),
        ],
        ["tokens per step", *(s.tokens_per_step for s in speeds)],
    ]
