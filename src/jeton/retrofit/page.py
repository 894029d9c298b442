"""The certificate as a page: a headline, what it gains, what it costs, how it was done."""

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
    TokenStrip,
    Tone,
    Verdict,
)
from jeton.report.format import format_bytes, format_number, format_percent, format_ratio
from jeton.retrofit.result import RetrofitResult

GENERAL_LIMIT = 0.03  # general text may lose this share before it counts as a regression


def retrofit_document(result: RetrofitResult) -> Document:
    """Return the page of a retrofit."""
    source, destination = result.source, result.destination
    gain = destination.bytes_per_token / source.bytes_per_token
    faster = destination.speed.speculative_bytes_per_second / source.speed.bytes_per_second
    return Document(
        title=f"Retrofit of {source.name}",
        subtitle=(
            f"{result.num_kept_tokens:,} tokens kept, {result.num_new_tokens:,} learned; "
            f"verified on {format_bytes(result.held_out_bytes)} of text that neither learning nor "
            "healing saw"
        ),
        headline=(
            f"{format_ratio(gain)} the bytes per token, {format_ratio(faster)} the bytes per "
            "second, the same bytes."
        ),
        verdict=_verdict(result),
        blocks=(
            _cards(result, gain, faster),
            *_quality(result),
            *_speed(result),
            *_tokens(result),
            *_method(result),
        ),
        footer="jeton "
        + result.environment.get("jeton", "")
        + " · torch "
        + result.environment.get("torch", "")
        + " · transformers "
        + result.environment.get("transformers", ""),
    )


def _verdict(result: RetrofitResult) -> Verdict:
    if not result.regressions:
        return Verdict(
            True,
            "bits per byte on your text did not rise, general text lost no more than "
            f"{format_percent(GENERAL_LIMIT, 0)}, and every speed grew.",
            "Nothing became worse:",
        )
    return Verdict(
        False,
        "; ".join(result.regressions)
        + f". Healing so far: {format_number(result.healing_steps)} steps over "
        f"{format_bytes(result.healing_bytes)} of text.",
        "Worse than the source:",
    )


def _tone(is_good: bool) -> Tone:
    return "good" if is_good else "bad"


def _cards(result: RetrofitResult, gain: float, faster: float) -> Figures:
    before, after = result.source, result.destination
    lost = after.general_bits_per_byte / before.general_bits_per_byte - 1
    return Figures(
        [
            Figure(
                "Bytes per token",
                format_ratio(gain),
                f"{before.bytes_per_token:.2f} → {after.bytes_per_token:.2f}",
                _tone(gain > 1),
            ),
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
                "Bytes per second",
                format_ratio(faster),
                f"{before.speed.bytes_per_second:,.0f} plain → "
                f"{after.speed.speculative_bytes_per_second:,.0f} with {result.drafter}",
                _tone(faster > 1),
            ),
        ]
    )


def _quality(result: RetrofitResult) -> list[Block]:
    before, after = result.source, result.destination
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
                (
                    "your text, held out",
                    [("source", before.bits_per_byte), ("destination", after.bits_per_byte)],
                ),
                (
                    f"general text ({result.general_source})",
                    [
                        ("source", before.general_bits_per_byte),
                        ("destination", after.general_bits_per_byte),
                    ],
                ),
            ],
            lower_is_better=True,
        ),
    ]
    if len(result.healing) > 1:
        seconds = [point[1] for point in result.healing]
        blocks.append(
            Lines(
                "Healing",
                "seconds of training",
                "bits per byte of the text trained on",
                [("destination", seconds, [point[2] for point in result.healing])],
                note=(
                    f"Right after the transplant: {result.bits_per_byte_at_start:.3f} bits per "
                    "byte on held-out text. The curve is smoothed and includes the general text "
                    "that is mixed in."
                ),
            )
        )
    return blocks


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


def _tokens(result: RetrofitResult) -> list[Block]:
    before, after = result.source, result.destination
    return [
        Section("The same bytes in fewer tokens"),
        Bars(
            "Bytes per token",
            "bytes per token",
            [
                (
                    "your text, held out",
                    [("source", before.bytes_per_token), ("destination", after.bytes_per_token)],
                ),
                (
                    "general text",
                    [
                        ("source", before.general_bytes_per_token),
                        ("destination", after.general_bytes_per_token),
                    ],
                ),
            ],
            lower_is_better=False,
        ),
        TokenStrip(
            "A piece of your text, cut by both",
            [
                (f"source ({before.name})", result.strip[0]),
                ("destination", result.strip[1]),
            ],
        ),
    ]


def _method(result: RetrofitResult) -> list[Block]:
    before, after = result.source, result.destination
    rows: list[list[Cell | str | float | None]] = [
        ["vocabulary", float(before.vocab_size), float(after.vocab_size)],
        ["parameters", float(before.num_parameters), float(after.num_parameters)],
        ["weights", format_bytes(before.size_bytes), format_bytes(after.size_bytes)],
        ["bytes per token", before.bytes_per_token, after.bytes_per_token],
        ["bits per byte, your text", before.bits_per_byte, after.bits_per_byte],
        [
            "bits per byte, general text",
            before.general_bits_per_byte,
            after.general_bits_per_byte,
        ],
        ["bytes per second, plain", *(s.speed.bytes_per_second for s in (before, after))],
        [
            f"bytes per second, {result.drafter}",
            *(s.speed.speculative_bytes_per_second for s in (before, after)),
        ],
        ["tokens per step", *(s.speed.tokens_per_step for s in (before, after))],
    ]
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.timings_s.items())
    return [
        Section("All figures", anchor="figures"),
        Table(["", "source", "destination"], rows),
        Note(
            f"{format_number(result.num_copied_rows)} embedding rows were copied, "
            f"{format_number(result.num_composed_rows)} composed; healing took "
            f"{format_number(result.healing_steps)} steps over "
            f"{format_bytes(result.healing_bytes)} of text. Stages: {stages or 'none'}."
        ),
    ]
