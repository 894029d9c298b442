"""A document in a terminal, with rich; readable in 80 columns and without colours."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table as RichTable
from rich.text import Text

from jeton.report.document import (
    Bars,
    Block,
    Cell,
    Code,
    Document,
    Figures,
    HeatStrip,
    HeatTable,
    Histogram,
    Lines,
    MarkedText,
    Note,
    Section,
    Table,
    TokenStrip,
)
from jeton.report.format import format_number, printable
from jeton.report.palette import assign_colours, block_colours
from jeton.report.strip import Piece, cut_rows, shade
from jeton.report.svg import finite

_TONES = {"good": "green", "bad": "bold red", "neutral": ""}
_MARKS = {"good": "✓ ", "bad": "✗ ", "neutral": ""}
# Middle tones, legible on black and on white; rich falls back to the nearest of 16 colours.
_SERIES = ("#8b95a5", "#4d8df0", "#e08a2c", "#2fa697", "#b070e0", "#bd9a1e")
_TOKENS = ("black on #b9d0f7", "black on #f6d9a8", "black on #b5e3cf", "black on #e6c3ea")
_HEAT = (0, 52, 52, 88, 88, 124, 124, 160, 196)  # of the 256 colours, by units
_TOKENS_16 = ("black on cyan", "black on yellow", "black on green", "black on white")
_HEAT_ROWS = 12
_EIGHTHS = " ▏▎▍▌▋▊▉"
_LEVELS = "▁▂▃▄▅▆▇█"


def render_terminal(document: Document, console: Console) -> None:
    """Print the document; control characters in it are shown, never sent to the terminal."""
    console.print()
    console.print(_text(document.title, "bold"))
    if document.subtitle:
        console.print(_text(document.subtitle, "dim"))
    if document.headline:
        console.print()
        console.print(_text(document.headline))
    if document.verdict is not None:
        tone = "good" if document.verdict.ok else "bad"
        word = f"{document.verdict.word}  "
        console.print()
        console.print(_text(word + document.verdict.text, _TONES[tone]))
    colours = assign_colours(document.blocks)
    for block in document.blocks:
        console.print()
        own = {name: _SERIES[i] for name, i in block_colours(block, colours).items()}
        console.print(_render(block, console, own))
    if document.footer:
        console.print()
        console.print(Rule(style="dim"))
        console.print(_text(document.footer, "dim"))


def _text(content: str, style: str = "") -> Text:
    """Return text in which nothing is markup and no character is a control."""
    return Text(printable(content).expandtabs(4), style=style)


def _render(block: Block, console: Console, styles: dict[str, str]) -> RenderableType:
    match block:
        case Section():
            parts: list[RenderableType] = [Rule(_text(block.title, "bold"), style="dim")]
            return Group(*parts, *([_text(block.text.strip())] if block.text else []))
        case Figures():
            return _figures(block)
        case Table():
            return _table(block)
        case HeatTable():
            return _heat(block)
        case Bars():
            return _bars(block, console.width, styles)
        case Lines():
            return _lines(block, console.width, styles)
        case Histogram():
            return _histogram(block, console.width, styles)
        case TokenStrip():
            return _strip(block, console)
        case MarkedText():
            return _marked(block, styles)
        case HeatStrip():
            return _shaded(block, console)
        case Code():
            caption = [_text(block.caption, "dim")] if block.caption else []
            return Group(*caption, Padding(_text(block.text), (0, 2)))
        case Note():
            return _text(f"{_MARKS[block.tone] or '· '}{block.text}", _TONES[block.tone])


def _grid(*justify: Any) -> RichTable:
    grid = RichTable.grid(padding=(0, 2, 0, 0))
    for side in justify:
        grid.add_column(justify=side)
    return grid


def _figures(block: Figures) -> RenderableType:
    grid = _grid("left", "right", "left")
    for figure in block.figures:
        value = _text(_MARKS[figure.tone] + figure.value, _TONES[figure.tone] or "bold")
        grid.add_row(_text(figure.label), value, _text(figure.detail, "dim"))
    return grid


def _table(block: Table) -> RenderableType:
    table = RichTable(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for column, is_numeric in zip(block.columns, block.numeric_columns(), strict=True):
        table.add_column(_text(column), justify="right" if is_numeric else "left")
    for row in block.cells():
        table.add_row(*(_cell(cell) for cell in row))
    return Group(_text(block.caption, "bold"), table) if block.caption else table


def _cell(cell: Cell) -> Text:
    shown = cell.value if isinstance(cell.value, str) else format_number(cell.value)
    return _text(_MARKS[cell.tone] + shown, _TONES[cell.tone])


def _heat(block: HeatTable) -> RenderableType:
    """Return the rows whose largest value is largest; the page has all of them."""
    ranked = sorted(block.rows, key=lambda row: -max((v or 0.0 for v in row[1]), default=0.0))
    table = RichTable(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for column in ("", "least", "most", "where it is most"):
        table.add_column(_text(column), justify="right" if column in ("least", "most") else "left")
    for name, values in ranked[:_HEAT_ROWS]:
        known = [(v, c) for v, c in zip(values, block.columns, strict=True) if v is not None]
        if known:
            low, (high, where) = min(known)[0], max(known)
            shown = (f"{low:.{block.digits}f}", f"{high:.{block.digits}f}", where)
            table.add_row(_text(name), *map(_text, shown))
    left_out = len(block.rows) - _HEAT_ROWS
    note = f"{left_out} more rows, and every value, stand on the page (--html)" * (left_out > 0)
    return _with_note([_text(block.title, "bold"), table], note)


def _heading(title: str, detail: str) -> Text:
    return Text.assemble(_text(title, "bold"), "  ", _text(detail, "dim"))


def _with_note(parts: Sequence[RenderableType], note: str) -> Group:
    return Group(*parts, *([_text(note, "dim")] if note else []))


def _bars(block: Bars, width: int, styles: dict[str, str]) -> RenderableType:
    directions = {None: "", True: "lower is better", False: "higher is better"}
    block, styles = block.labelled(styles)
    names = block.series()
    values = [finite(value) for _, bars in block.groups for _, value in bars]
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    room = min(max(map(len, names), default=0), 28) + 16
    detail = ", ".join(filter(None, (block.unit, directions[block.lower_is_better])))
    parts: list[RenderableType] = [_heading(block.title, detail)]
    for label, bars in block.groups:
        if label:
            parts.append(_text(f"  {label}"))
        grid = _grid("left", "left")
        for name, value in bars:
            bar = _bar(finite(value), largest, max(width - room, 10))
            written = f" {format_number(value, block.digits)}"
            grid.add_row(_text(name, "dim"), Text.assemble((bar, styles[name]), written))
        parts.append(Padding(grid, (0, 0, 0, 4)))
    return _with_note(parts, block.note)


def _bar(value: float | None, largest: float, width: int) -> str:
    """Return a bar of block characters; a negative value has a minus before its bar."""
    if value is None or largest == 0:
        return ""
    eighths = round(abs(value) / largest * width * 8)
    bar = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
    return ("-" if value < 0 else "") + bar


def _lines(block: Lines, width: int, styles: dict[str, str]) -> RenderableType:
    """Return each curve as a row of levels over the points in order, between its ends' values."""
    known = [y for _, _, ys in block.series for y in map(finite, ys) if y is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    room = max(width - max((len(name) for name, _, _ in block.series), default=0) - 40, 8)
    grid = _grid("left", "right", "left", "left", "left")
    for name, xs, ys in block.series:
        points = [(x, y) for x, y in zip(xs, ys, strict=True) if finite(y) is not None]
        if not points:
            grid.add_row(_text(name, "dim"), Text("n/a"))
            continue
        (x0, y0), (x1, y1) = points[0], points[-1]
        curve = _curve([y for _, y in points], low, high, room)
        grid.add_row(
            _text(name, "dim"),
            Text(format_number(y0, block.digits)),
            Text(curve, style=styles[name]),
            Text(format_number(y1, block.digits)),
            Text(f"{format_number(x0)} to {format_number(x1)}", style="dim"),
        )
    heading = _heading(block.title, f"{block.y_label} by {block.x_label}")
    return _with_note([heading, Padding(grid, (0, 0, 0, 2))], block.note)


def _curve(ys: Sequence[float], low: float, high: float, width: int) -> str:
    """Return the ys as levels, at most `width` of them, evenly taken."""
    count = min(len(ys), width)
    taken = [ys[i * (len(ys) - 1) // max(count - 1, 1)] for i in range(count)]
    span = high - low
    top = len(_LEVELS) - 1
    return "".join(
        _LEVELS[min(top, math.floor(((finite(y) or 0.0) - low) / span * top + 0.5)) if span else 0]
        for y in taken
    )


def _histogram(block: Histogram, width: int, styles: dict[str, str]) -> RenderableType:
    counts = [finite(count) for _, series in block.series for count in series]
    largest = max((abs(count) for count in counts if count is not None), default=0.0)
    labels = max(map(len, block.bins), default=0) + max(
        (len(n) for n, _ in block.series), default=0
    )
    grid = _grid("right", "left", "left")
    for index, label in enumerate(block.bins):
        for series_index, (name, series) in enumerate(block.series):
            bar = _bar(finite(series[index]), largest, max(width - labels - 18, 10))
            written = f" {format_number(series[index])}"
            head = label if series_index == 0 else ""
            grid.add_row(
                _text(head), _text(name, "dim"), Text.assemble((bar, styles[name]), written)
            )
    detail = " by ".join(filter(None, (block.y_label, block.x_label)))
    heading = _heading(block.title, detail)
    return _with_note([heading, Padding(grid, (0, 0, 0, 2))], block.note)


def _strip(block: TokenStrip, console: Console) -> RenderableType:
    has_colours = console.color_system is not None and not console.no_color
    styles = (_TOKENS_16 if console.color_system == "standard" else _TOKENS) if has_colours else ()
    parts: list[RenderableType] = [_text(block.title, "bold")]
    for index, (label, tokens) in enumerate(block.rows):
        key = f"  {_letter(index)} {label}: {len(tokens):,} tokens"
        parts.append(_text(key, "dim"))
    grid = RichTable.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    columns = max(console.width - 10, 8)
    for line in cut_rows(block.rows, columns if has_colours else max(columns // 2, 8)):
        for index, pieces in line:
            count = str(sum(piece.is_start for piece in pieces))
            head = Text(_letter(index), style="dim")
            grid.add_row(head, Text(count, style="dim"), _pieces(pieces, styles))
    return _with_note([*parts, grid], block.note)


def _shaded(block: HeatStrip, console: Console) -> RenderableType:
    """Return a shaded text; the deeper the red, the more units."""
    lines = []
    for cells in shade(block.data, block.values, max(console.width - 2, 8)):
        line = Text()
        for shown, level in cells:
            line.append(shown, style=f"on color({_HEAT[level]})" if level else "")
        lines.append(line)
    return _with_note([_text(block.title, "bold"), *lines], block.note)


def _letter(index: int) -> str:
    return chr(ord("A") + index % 26)


def _pieces(pieces: Sequence[Piece], styles: Sequence[str]) -> Text:
    """Return a line's tokens, told apart by background, or by bars where there are no colours."""
    line = Text()
    for piece in pieces:
        if not styles and piece.is_start:
            line.append("│")
        style = styles[piece.token_index % len(styles)] if styles else ""
        for shown, _ in piece.runs:
            line.append(shown, style=style)
    return line


def _marked(block: MarkedText, styles: dict[str, str]) -> RenderableType:
    """Return the text with each token in the colour of its mark."""
    counts = Counter(mark for mark, _ in block.tokens)
    keys = Text("  ").join(
        Text.assemble(_text(mark, styles[mark]), f" {counts[mark]}") for mark in block.marks()
    )
    pieces = Text()
    for line in cut_rows([("", [token for _, token in block.tokens])], 76):
        for _, row in line:
            for piece in row:
                style = styles[block.tokens[piece.token_index][0]]
                for shown, _ in piece.runs:
                    pieces.append(shown, style=style)
            pieces.append("\n")
    heading = Text.assemble(_text(block.title, "bold"), "  ", keys)
    return _with_note([heading, Padding(pieces, (0, 2))], block.note)
