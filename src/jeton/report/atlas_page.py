"""The page of an atlas: which tokenizers treat which languages how, as a map of colours."""

from jeton.audit.atlas import AtlasResult, AtlasRow
from jeton.report.document import (
    Block,
    Cell,
    Document,
    Figure,
    Figures,
    HeatTable,
    Lines,
    Note,
    Section,
    Table,
    Tone,
)
from jeton.report.format import format_number, format_ratio

_LIMITS = (1.2, 1.7, 2.5, 4.0, 7.0, 12.0)  # about equally many cells of the shipped atlas in each


def atlas_document(result: AtlasResult) -> Document:
    """Return the page of an atlas."""
    rows = result.rows
    base = _name(result, result.reference)
    best = rows[0]
    worst, language = _worst(rows)
    readable = [row for row in rows if not row.unreadable]
    tokenizers = "1 tokenizer" if len(rows) == 1 else f"{len(rows)} tokenizers"
    headline = (
        f"The same text takes up to {format_ratio(worst.premiums[language])} the tokens of {base}: "
        f"{_name(result, language)} in {worst.tokenizer}."
    )
    if len(readable) > 1:
        densest = max(readable, key=_density)
        headline += (
            f" {best.tokenizer} treats the languages most alike, {densest.tokenizer} packs the "
            "most text into a token."
        )
    return Document(
        title="Atlas of tokenizers",
        subtitle=f"{tokenizers} by {len(result.languages)} languages; {result.text}",
        headline=headline,
        blocks=(
            Figures(_cards(result, worst, language)),
            Section(
                "Tokenizers",
                "The fairest first, of those that can write every language. Median and worst are "
                "premiums; "
                "lost counts the languages that become unknown tokens, with which bytes per token "
                "would mean nothing.",
            ),
            _table(result),
            *_charts(result),
            Section(
                "Languages",
                f"Tokens over those of {base} for the same text; 1 is the same price. The dearest "
                "language on top.",
            ),
            _heat(result),
            *_unreadable(rows),
        ),
        footer="Premium: tokens of a language over those of the reference, same text. Gini: 0 when "
        "every language takes as many tokens. docs/audit.md says more.",
    )


def _name(result: AtlasResult, language: str) -> str:
    return result.names.get(language) or language


def _worst(rows: list[AtlasRow]) -> tuple[AtlasRow, str]:
    row = max(rows, key=lambda r: (r.premiums[r.worst_language], r.tokenizer))
    return row, row.worst_language


def _cards(result: AtlasResult, worst: AtlasRow, language: str) -> list[Figure]:
    rows = result.rows
    densest = max((r for r in rows if not r.unreadable), key=_density, default=rows[0])
    least = min(rows, key=lambda row: (len(row.unreadable), row.median_premium))
    return [
        Figure("Fairest", f"{rows[0].gini:.3f}", f"Gini of {rows[0].tokenizer}"),
        Figure(
            "Lowest median premium", format_ratio(least.median_premium), f"in {least.tokenizer}"
        ),
        Figure(
            "Highest premium",
            format_ratio(worst.premiums[language]),
            f"{_name(result, language)} in {worst.tokenizer}",
            "bad" if worst.premiums[language] > 3 else "neutral",
        ),
        Figure(
            "Most text per token",
            format_number(densest.bytes_per_token),
            f"bytes per token, {densest.tokenizer}",
        ),
    ]


def _density(row: AtlasRow) -> float:
    return row.bytes_per_token


def _table(result: AtlasResult) -> Table:
    rows: list[list[Cell | str | float | None]] = [
        [
            row.tokenizer + (" *" if row.is_shipped and not _all_shipped(result) else ""),
            row.vocab_size,
            "–" if row.unreadable else f"{row.bytes_per_token:.2f}",
            f"{row.median_premium:.2f}",
            Cell(f"{row.premiums[row.worst_language]:.1f}", _tone(row)),
            _name(result, row.worst_language),
            f"{row.gini:.3f}",
            Cell(str(len(row.unreadable)), "bad" if row.unreadable else "neutral"),
        ]
        for row in result.rows
    ]
    heads = ["tokenizer", "ids", "bytes/token", "median", "worst", "in", "Gini", "lost"]
    caption = "" if _all_shipped(result) else "* from the figures that come with jeton"
    has_mark = any(row.is_shipped for row in result.rows)
    return Table(heads, rows, caption if has_mark else "")


def _all_shipped(result: AtlasResult) -> bool:
    return all(row.is_shipped for row in result.rows)


def _tone(row: AtlasRow) -> Tone:
    return "bad" if row.premiums[row.worst_language] > 3 else "neutral"


def _charts(result: AtlasResult) -> list[Block]:
    """Show what a larger vocabulary buys."""
    readable = [row for row in result.rows if not row.unreadable]
    if len(readable) < 2:
        return []
    frontier: list[AtlasRow] = []
    for row in sorted(readable, key=lambda row: (row.vocab_size, -row.bytes_per_token)):
        if not frontier or row.bytes_per_token > frontier[-1].bytes_per_token:
            frontier.append(row)
    return [
        Lines(
            "What a larger vocabulary buys",
            "ids of the vocabulary",
            "bytes per token, all languages",
            [
                (
                    "bytes per token",
                    [float(row.vocab_size) for row in frontier],
                    [row.bytes_per_token for row in frontier],
                )
            ],
            log_x=True,
            note="Tokenizers that no smaller one beats: "
            + ", ".join(f"{row.tokenizer} {row.bytes_per_token:.2f}" for row in frontier),
        ),
    ]


def _heat(result: AtlasResult) -> HeatTable:
    rows = result.rows
    medians = {
        language: sorted(row.premiums[language] for row in rows if language in row.premiums)
        for language in result.languages
        if language != result.reference
    }
    order = sorted(
        medians, key=lambda n: (-(medians[n][len(medians[n]) // 2] if medians[n] else 0.0), n)
    )
    return HeatTable(
        f"Premium over {_name(result, result.reference)}",
        [row.tokenizer for row in rows],
        [(_name(result, n), [row.premiums.get(n) for row in rows]) for n in order],
        _LIMITS,
        note="A dash: the tokenizer cannot write the language (unknown tokens).",
    )


def _unreadable(rows: list[AtlasRow]) -> list[Block]:
    lost = [row for row in rows if row.unreadable]
    if not lost:
        return []
    shown = "; ".join(f"{row.tokenizer} {len(row.unreadable)}" for row in lost)
    return [
        Note(
            f"Languages of which more than 1% becomes unknown tokens: {shown}. Few tokens there "
            "mean lost text, so that they have no premium.",
            "bad",
        )
    ]
