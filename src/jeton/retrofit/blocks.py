"""What the pages of all jobs share: cards, bars, the healing curve, the table of all figures."""

from collections.abc import Sequence
from pathlib import Path

from jeton.report.document import (
    Bars,
    Block,
    Cell,
    Figure,
    Lines,
    Note,
    Section,
    Table,
    Tone,
    Verdict,
)
from jeton.report.format import format_bytes, format_number, format_percent
from jeton.retrofit.result import Certificate, ModelFigures

Models = Sequence[tuple[str, ModelFigures]]
Curve = tuple[str, Sequence[tuple[int, float, float]]]
Rows = Sequence[list[Cell | str | float | None]]


def tone(is_good: bool) -> Tone:
    """Return the tone of a figure."""
    return "good" if is_good else "bad"


def verdict(result: Certificate, fine: str, more: str = "") -> Verdict:
    """Return the verdict.

    Args:
        result: With its regressions.
        fine: What it says when there are none.
        more: What it says beside them.
    """
    if not result.regressions:
        return Verdict(True, fine, "Nothing became worse:")
    return Verdict(False, "; ".join(result.regressions) + f". {more}", "Worse than the source:")


def bits_cards(result: Certificate, general_limit: float) -> list[Figure]:
    """Return the cards of bits per byte on domain and general text."""
    before, after = result.source, result.destination
    lost = after.general_bits_per_byte / before.general_bits_per_byte - 1
    return [
        Figure(
            "Bits per byte, your text",
            f"{after.bits_per_byte:.3f}",
            f"before {before.bits_per_byte:.3f}",
            tone(after.bits_per_byte <= before.bits_per_byte),
        ),
        Figure(
            "Bits per byte, general text",
            f"{after.general_bits_per_byte:.3f}",
            f"{format_percent(lost, signed=True)} against {before.general_bits_per_byte:.3f}",
            tone(lost <= general_limit),
        ),
    ]


def short_name(folder: str) -> str:
    """Return what people call a model: its folder's name, of a run's `model/` that of the run.

    Example:
        >>> short_name("runs/taught/model")
        'taught'
    """
    path = Path(folder)
    return path.parent.name if path.name == "model" and path.parent.name else path.name


def quality(
    result: Certificate,
    models: Models,
    control: tuple[float, float] | None = None,
    note: str = "",
) -> list[Block]:
    """Return the section on bits per byte.

    Args:
        result: The certificate.
        models: By name, source and destination first.
        control: Bits per byte of the control on domain and general text.
        note: Below the bars.
    """
    domain = [(name, m.bits_per_byte) for name, m in models]
    general = [(name, m.general_bits_per_byte) for name, m in models]
    if control is not None:
        domain.append(("control", control[0]))
        general.append(("control", control[1]))
    return [
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


def healing_curve(result: Certificate, models: Models, *others: Curve) -> list[Block]:
    """Return the curve of healing beside others; nothing where there was too little healing.

    Args:
        result: The certificate.
        models: By name, the healed one second.
        others: Curves to show with it.
    """
    curves: list[Curve] = [(models[1][0], result.healing), *others]
    curves = [(name, points) for name, points in curves if len(points) > 1]
    if len(result.healing) < 2:
        return []
    start, source = result.bits_per_byte_at_start, result.source_bits_per_byte_at_start
    beside = "" if start == source else f", where the source has {source:.3f}"
    return [
        Lines(
            "Healing",
            "seconds of training",
            "bits per byte of the text trained on",
            [(name, [p[1] for p in points], [p[2] for p in points]) for name, points in curves],
            note=(
                f"Before healing: {start:.3f} bits per byte on a part of the held-out text{beside}"
                ". The curve is smoothed and includes the general text that is mixed in."
            ),
        )
    ]


def bytes_per_token(title: str, models: Models) -> list[Block]:
    """Return the section on tokens."""
    return [
        Section(title),
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


def all_figures(result: Certificate, models: Models, more: Rows, note: str) -> list[Block]:
    """Return the table of all figures.

    Args:
        result: The certificate.
        models: By name; one column each.
        more: Rows of one job's own figures.
        note: How it was done; what every job can say is added.
    """

    def row(label: str, field: str) -> list[Cell | str | float | None]:
        return [label, *(float(getattr(m, field)) for _, m in models)]

    rows: list[list[Cell | str | float | None]] = [
        row("vocabulary", "vocab_size"),
        row("rows of the embedding", "num_embeddings"),
        row("parameters", "num_parameters"),
        ["weights", *(format_bytes(m.size_bytes) for _, m in models)],
        row("bytes per token, your text", "bytes_per_token"),
        row("bytes per token, general text", "general_bytes_per_token"),
        row("bits per byte, your text", "bits_per_byte"),
        row("bits per byte, general text", "general_bits_per_byte"),
        *more,
    ]
    stages = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.timings_s.items())
    return [
        Section("All figures", anchor="figures"),
        Table(["", *(name for name, _ in models)], rows),
        Note(
            f"{_rows(result)}{_dropped(result)}"
            f"Healing took {format_number(result.healing_steps)} steps over "
            f"{format_bytes(result.healing_bytes)} of text. {note}Stages: {stages or 'none'}."
        ),
    ]


def footer(result: Certificate) -> str:
    """Return the versions."""
    names = ("jeton", "torch", "transformers")
    return " · ".join(f"{name} {result.environment.get(name, '')}" for name in names)


def _rows(result: Certificate) -> str:
    if not result.num_new_tokens and result.num_kept_tokens == result.source.vocab_size:
        return "The vocabulary is the source's. "
    return (
        f"{format_number(result.num_kept_tokens)} tokens are the source's, "
        f"{format_number(result.num_new_tokens)} are new. Of the embedding rows "
        f"{format_number(result.num_copied_rows)} were copied, "
        f"{format_number(result.num_composed_rows)} composed by {result.init}, "
        f"{format_number(result.num_fallback_rows)} had no parts. "
    )


def _dropped(result: Certificate) -> str:
    unused = result.source.num_embeddings - result.source.vocab_size
    if unused <= 0:
        return ""
    return f"{format_number(unused)} rows of the source that no token uses were dropped. "
