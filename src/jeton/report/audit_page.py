"""The page of an audit: headline, what is wrong, what it costs, pictures, evidence."""

import math

from jeton.audit.contract import MetricResult, Series
from jeton.audit.run import AuditResult
from jeton.report.document import (
    Bars,
    Block,
    Cell,
    Document,
    Figure,
    Figures,
    Histogram,
    Lines,
    Note,
    Section,
    Table,
    TokenStrip,
    Tone,
)
from jeton.report.format import format_bytes, format_number, format_percent, format_ratio

_MAX_BARS = 16
_MAX_WITNESS_CHARS = 48
_CARDS = ("bytes_per_token", "premium", "dead", "shadowed", "utilisation", "round_trip")
# a figure that is worse than this is something to mend
_DEFECTS = (
    ("dead", 0.0, "ids that no text can produce: rows of the embedding paid for nothing"),
    ("shadowed", 0.0, "ids that an added token takes the text from"),
    ("duplicates", 0.0, "ids with the bytes of another id"),
    ("under_trained", 0.0, "ids that training hardly touched: they can derail a model"),
    ("round_trip", 0.0, "text that does not come back from its tokens"),
    ("redundant_merges", 0.0, "merges that never fire: dead weight in the file"),
    ("premium", 3.0, "a language pays several times the price of the reference"),
    ("worst_case_latency", 8.0, "one short text can take many times the usual time to encode"),
)


def audit_document(result: AuditResult) -> Document:
    """Return the page of an audit, with a second tokenizer where one was given."""
    blocks: list[Block] = [Figures(_cards(result)), *_wrong(result)]
    for part in (_cost, _vocabulary, _numbers, _strip, _all_figures, _evidence, _skipped):
        blocks += part(result)
    documents = "document" if result.num_documents == 1 else "documents"
    versus = f" against {result.against.tokenizer}" if result.against else ""
    return Document(
        title=f"Audit of {result.tokenizer}{versus}",
        subtitle=f"{result.model_kind}, {result.vocab_size:,} ids; measured on "
        f"{result.num_documents:,} {documents}, {format_bytes(result.num_bytes)} of text",
        headline=_headline(result),
        blocks=tuple(blocks),
        footer="Every figure is exact on the text given, or carries its interval. "
        "Dead tokens are proven dead. docs/audit.md defines each metric.",
    )


def _headline(result: AuditResult) -> str:
    """Say the price first, and how it compares."""
    parts = []
    own = _value(result, "bytes_per_token")
    if own is not None:
        parts.append(f"{format_number(own)} bytes per token")
        other = _value(result.against, "bytes_per_token") if result.against else None
        if other and result.against:
            share = own / other - 1
            word = "more" if share > 0 else "less"
            parts[-1] += (
                f", {format_percent(abs(share), 0)} {word} text per token "
                f"than {result.against.tokenizer}"
            )
        if unknown := _unknown(result):
            parts[-1] += f", but {unknown}"
    lost = sum(_value(result, name) or 0.0 for name in ("dead", "shadowed"))
    parts.append(f"{int(lost):,} of {result.vocab_size:,} ids can never occur")
    premium = result.figure("premium")
    if premium is not None and premium.value is not None:
        parts.append(f"the worst language pays {format_ratio(premium.value)}")
    return "; ".join(parts) + "."


def _unknown(result: AuditResult) -> str:
    """Return how much the unknown token hides, which makes bytes per token too good."""
    figure = result.figure("bytes_per_token")
    return figure.detail.partition("; ")[2] if figure else ""


def _value(result: AuditResult | None, name: str) -> float | None:
    figure = result.figure(name) if result else None
    return figure.value if figure else None


def _shown(figure: MetricResult | None) -> str:
    """Return a figure's value as people read it."""
    if figure is None or figure.value is None:
        return "n/a"
    value = figure.value
    if figure.unit == "share":
        return format_percent(value)
    if figure.unit == "ratio":
        return format_ratio(value)
    whole = int(value) if value == int(value) and abs(value) < 1e15 else value
    return format_number(whole)


def _cards(result: AuditResult) -> list[Figure]:
    cards = []
    for name in _CARDS:
        figure = result.figure(name)
        if figure is None:
            continue
        detail = ""
        if result.against is not None:
            detail = f"{_shown(result.against.figure(name))} in {result.against.tokenizer}"
        cards.append(Figure(figure.title, _shown(figure), detail, _tone(figure)))
    return cards


def _tone(figure: MetricResult) -> Tone:
    limits = {name: limit for name, limit, _ in _DEFECTS}
    if figure.name not in limits or figure.value is None:
        return "neutral"
    return "bad" if figure.value > limits[figure.name] else "good"


def _wrong(result: AuditResult) -> list[Block]:
    rows: list[list[Cell | str | float | None]] = []
    for name, limit, meaning in _DEFECTS:
        figure = result.figure(name)
        if figure is not None and figure.value is not None and figure.value > limit:
            first = figure.witnesses[0] if figure.witnesses else None
            example = f"{_short(first.token)}: {first.detail}" if first else figure.detail
            rows.append([figure.title, Cell(_shown(figure), "bad"), meaning, example])
    if unknown := _unknown(result):
        meaning = "their text is lost, and bytes per token looks better than it is"
        rows.append(["Unknown tokens", Cell(unknown.split()[0], "bad"), meaning, unknown])
    section = Section("What is wrong")
    if not rows:
        return [section, Note("Nothing was found wrong.", "good")]
    return [section, Table(["finding", "figure", "what it means", "for example"], rows)]


def _short(text: str) -> str:
    """Return text in one line of a readable length, spaces visible."""
    flat = text.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "·")
    return flat if len(flat) <= _MAX_WITNESS_CHARS else flat[: _MAX_WITNESS_CHARS - 1] + "…"


def _cost(result: AuditResult) -> list[Block]:
    blocks: list[Block] = []
    figure = result.figure("bytes_per_token")
    if figure is not None:
        blocks.append(Section("What it costs", figure.detail + "."))
        blocks.append(_bars(result, "bytes_per_token", "Bytes per token", "bytes per token"))
    if result.figure("premium") is not None:
        premium = result.figure("premium")
        blocks.append(_bars(result, "premium", "Premium by language", "times the reference"))
        if premium is not None:
            blocks.append(Note(premium.detail + "."))
    return blocks


def _bars(result: AuditResult, name: str, title: str, unit: str) -> Bars:
    """Return the groups where this tokenizer does worst, both tokenizers side by side."""
    figure = result.figure(name)
    assert figure is not None
    lower = bool(figure.is_lower_better)
    names = sorted(
        figure.groups, key=lambda g: (-figure.groups[g] if lower else figure.groups[g], g)
    )
    shown = names if len(names) <= _MAX_BARS else [*names[: _MAX_BARS - 4], *names[-4:]]
    groups = []
    for group in shown:
        bars: list[tuple[str, float | None]] = [(result.tokenizer, figure.groups[group])]
        other = result.against.figure(name) if result.against else None
        if other is not None and result.against is not None:
            bars.append((result.against.tokenizer, other.groups.get(group)))
        groups.append((group, bars))
    left_out = len(names) - len(shown)
    note = f"the {_MAX_BARS - 4} worst and the 4 best of {len(names)}" if left_out else ""
    return Bars(title, unit, groups, lower_is_better=lower, note=note)


def _vocabulary(result: AuditResult) -> list[Block]:
    """Show what the vocabulary is made of, and what of it is used."""
    blocks: list[Block] = [Section("The vocabulary")]
    length = result.figure("token_length")
    if length is not None:
        series = [s for s in (length.series.get("by_type"), length.series.get("by_use")) if s]
        names = ("of the vocabulary", "of the text")
        blocks.append(
            Histogram(
                "Token length",
                [str(x) for x in series[0].x],
                [(name, _percent(s)) for name, s in zip(names, series, strict=False)],
                x_label="bytes",
                y_label="% of tokens",
                note=length.detail,
            )
        )
    zipf = _zipf(result)
    if zipf:
        used = result.figure("utilisation")
        blocks.append(
            Lines(
                "Use by rank",
                "rank of the token",
                "log10 of its share of the text",
                zipf,
                log_x=True,
                note=used.detail if used else "",
            )
        )
    scripts = result.figure("script_mix")
    if scripts is not None and scripts.groups:
        blocks.append(_scripts(result))
    return blocks if len(blocks) > 1 else []


def _scripts(result: AuditResult) -> Bars:
    """Return the largest scripts of both vocabularies."""
    audits = [one for one in (result, result.against) if one is not None]
    shares: dict[str, dict[str, float]] = {}
    for one in audits:
        figure = one.figure("script_mix")
        shares[one.tokenizer] = figure.groups if figure else {}
    names = sorted({name for groups in shares.values() for name in groups})
    names.sort(key=lambda name: -max(groups.get(name, 0.0) for groups in shares.values()))
    bars = [
        (name, [(tokenizer, 100 * groups.get(name, 0.0)) for tokenizer, groups in shares.items()])
        for name in names[:10]
    ]
    return Bars("Scripts of the vocabulary", "% of text tokens", bars, lower_is_better=None)


def _percent(series: Series) -> list[float]:
    return [100 * y for y in series.y]


def _zipf(result: AuditResult) -> list[tuple[str, list[float], list[float]]]:
    lines = []
    for one in (result, result.against):
        figure = one.figure("utilisation") if one else None
        series = figure.series.get("zipf") if figure else None
        if one is not None and series is not None and len(series.x) > 1:
            logs = [math.log10(y) for y in series.y]
            lines.append((one.tokenizer, [float(x) for x in series.x], logs))
    return lines


def _numbers(result: AuditResult) -> list[Block]:
    """Show how numbers are cut, and what indentation costs."""
    blocks: list[Block] = []
    digits = result.figure("digits")
    if digits is not None:
        other = result.against.figure("digits") if result.against else None
        blocks.append(Section("Numbers and white space", f"Digit rule: {digits.detail}."))
        heads = ["number", result.tokenizer]
        cuts = {w.token: w.detail for w in other.witnesses} if other else {}
        rows: list[list[Cell | str | float | None]] = []
        for witness in digits.witnesses[2:12]:
            row: list[Cell | str | float | None] = [witness.token, witness.detail.replace("|", " ")]
            rows.append([*row, cuts.get(witness.token, "").replace("|", " ")] if other else row)
        if other and result.against:
            heads.append(result.against.tokenizer)
        blocks.append(Table(heads, rows, caption="How numbers are cut"))
    whitespace = result.figure("whitespace")
    if whitespace is not None:
        blocks.append(
            Bars(
                "Extra tokens of an indented line",
                "tokens",
                _white_bars(result),
                lower_is_better=True,
                note=whitespace.detail,
            )
        )
    return blocks


def _white_bars(result: AuditResult) -> list[tuple[str, list[tuple[str, float | None]]]]:
    own = result.figure("whitespace")
    other = result.against.figure("whitespace") if result.against else None
    groups = []
    for name, value in (own.groups if own else {}).items():
        bars: list[tuple[str, float | None]] = [(result.tokenizer, value)]
        if other is not None and result.against is not None:
            bars.append((result.against.tokenizer, other.groups.get(name)))
        groups.append((name, bars))
    return groups


def _strip(result: AuditResult) -> list[Block]:
    """Show the sample lines, one strip per tokenizer, line under line."""
    if not result.strip:
        return []
    own: list[bytes] = []
    other: list[bytes] = []
    for line in result.strip:
        own += [*line.tokens, b"\n"]
        other += [*line.tokens_against, b"\n"]
    rows = [(result.tokenizer, own)]
    if result.against is not None:
        rows.append((result.against.tokenizer, other))
    return [Section("The text, cut"), TokenStrip("Sample lines", rows)]


def _all_figures(result: AuditResult) -> list[Block]:
    heads = ["metric", result.tokenizer]
    if result.against is not None:
        heads.append(result.against.tokenizer)
    rows: list[list[Cell | str | float | None]] = []
    for figure in result.figures:
        row: list[Cell | str | float | None] = [figure.title, _shown(figure)]
        if result.against is not None:
            row.append(_shown(result.against.figure(figure.name)))
        rows.append([*row, figure.unit if figure.unit != "share" else "", figure.detail])
    return [Section("All figures"), Table([*heads, "unit", "in words"], rows)]


def _evidence(result: AuditResult) -> list[Block]:
    """List the witnesses of the figures that say something is wrong."""
    rows: list[list[Cell | str | float | None]] = []
    for name, limit, _ in _DEFECTS:
        figure = result.figure(name)
        if figure is None or figure.value is None or figure.value <= limit:
            continue
        for witness in figure.witnesses[:6]:
            token_id = "–" if witness.token_id is None else str(witness.token_id)
            rows.append([figure.title, token_id, _short(witness.token), witness.detail])
    if not rows:
        return []
    caption = "up to six for each finding; the JSON has more"
    return [Section("Evidence"), Table(["finding", "id", "token", "what"], rows, caption=caption)]


def _skipped(result: AuditResult) -> list[Block]:
    if not result.skipped:
        return []
    parts = [f"{name} needs {need}" for name, need in result.skipped.items()]
    return [Note("Not measured: " + "; ".join(parts) + ".")]
