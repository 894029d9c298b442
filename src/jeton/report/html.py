"""A document as one HTML file that needs nothing else: inline style, inline SVG, no script."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import groupby
from typing import Any

import jinja2
from markupsafe import Markup

from jeton.report.charts import draw_bars, draw_histogram, draw_lines
from jeton.report.document import (
    Bars,
    Block,
    Cell,
    Document,
    HeatStrip,
    Histogram,
    Lines,
    MarkedText,
    Section,
    TokenStrip,
)
from jeton.report.format import format_number, printable
from jeton.report.palette import assign_colours, block_colours
from jeton.report.strip import Piece, cut_rows, shade

_NARROW, _WIDE = 420.0, 880.0  # one is half a desktop page or a phone, the other a whole page
_STRIP_COLUMNS = 96
_CHARTS = (Bars, Lines, Histogram)


@dataclass(frozen=True, slots=True)
class _Part:
    """A block beside what was prepared for the template."""

    kind: str
    block: Any
    anchor: str = ""
    charts: list["_Chart"] = field(default_factory=list)
    lines: list[list["_StripLine"]] = field(default_factory=list)
    colours: list[int] = field(default_factory=list)
    keys: list[tuple[str, int, int]] = field(default_factory=list)
    shades: list[list[tuple[str, int]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Chart:
    """A chart drawn for half a page and, where it stands alone in its row, for a whole one."""

    block: Bars | Lines | Histogram
    direction: str
    narrow: Markup
    wide: Markup | None


@dataclass(frozen=True, slots=True)
class _StripLine:
    """One row of one line of a token strip."""

    colour: int
    num_tokens: int
    pieces: list[Piece]


def render_html(document: Document) -> str:
    """Return the document as one self-contained page.

    Whatever the document holds is shown as text: markup in it is escaped, and characters that
    would hide or reorder text are made visible.
    """
    colours = assign_colours(document.blocks)
    parts = list(_prepare(document.blocks, colours))
    environment = jinja2.Environment(
        autoescape=True,
        finalize=_clean,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["paragraphs"] = _paragraphs
    environment.filters["show"] = _show
    source = files("jeton.report").joinpath("page.html.j2").read_text(encoding="utf-8")
    style = files("jeton.report").joinpath("page.css").read_text(encoding="utf-8")
    page = environment.from_string(source).render(
        document=document,
        parts=parts,
        contents=[part for part in parts if part.kind == "section"],
        style=Markup(style),
    )
    return page + "\n"


def _clean(value: Any) -> Any:
    """Make foreign text printable wherever the template shows it."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _paragraphs(text: str) -> list[str]:
    return [paragraph for paragraph in re.split(r"\n\s*\n", text.strip()) if paragraph]


def _show(cell: Cell) -> str:
    return cell.value if isinstance(cell.value, str) else format_number(cell.value)


def _prepare(blocks: Sequence[Block], colours: dict[str, int]) -> Iterator[_Part]:
    """Yield the parts of the page; neighbouring charts share a part."""
    anchors: set[str] = set()
    num_charts = 0
    for is_chart, run in groupby(blocks, key=lambda block: isinstance(block, _CHARTS)):
        group = list(run)
        if is_chart:
            charts = []
            for index, block in enumerate(group):
                is_alone = index == len(group) - 1 and len(group) % 2 == 1
                charts.append(_draw(block, f"chart-{num_charts}", is_alone, colours))
                num_charts += 1
            yield _Part("charts", None, charts=charts)
            continue
        for block in group:
            kind = type(block).__name__.lower()
            if isinstance(block, Section):
                yield _Part(kind, block, anchor=_anchor(block, anchors))
            elif isinstance(block, TokenStrip):
                own = block_colours(block, colours)
                row_colours = [own[label] for label, _ in block.rows]
                lines = [_strip_line(line, row_colours) for line in _cut(block)]
                yield _Part(kind, block, lines=lines, colours=row_colours)
            elif isinstance(block, MarkedText):
                own = block_colours(block, colours)
                mark_colours = [own[mark] for mark, _ in block.tokens]
                lines = [
                    [_StripLine(0, 0, pieces) for _, pieces in line]
                    for line in cut_rows([("", [token for _, token in block.tokens])], 96)
                ]
                yield _Part(kind, block, lines=lines, colours=mark_colours, keys=_keys(block, own))
            elif isinstance(block, HeatStrip):
                shades = list(shade(block.data, block.values, _STRIP_COLUMNS))
                yield _Part(kind, block, shades=shades)
            else:
                yield _Part(kind, block)


def _keys(block: MarkedText, colours: dict[str, int]) -> list[tuple[str, int, int]]:
    """Return each mark with its colour and the number of its tokens."""
    counts = Counter(mark for mark, _ in block.tokens)
    return [(mark, colours[mark], counts[mark]) for mark in block.marks()]


def _anchor(section: Section, taken: set[str]) -> str:
    """Return a name for links to a section that no other section has."""
    base = re.sub(r"[^a-z0-9]+", "-", (section.anchor or section.title).lower()).strip("-")
    anchor = base = base or "section"
    number = 1
    while anchor in taken:
        number += 1
        anchor = f"{base}-{number}"
    taken.add(anchor)
    return anchor


def _draw(block: Any, uid: str, is_alone: bool, colours: dict[str, int]) -> _Chart:
    own = block_colours(block, colours)
    draw: Callable[[Any, float, str, dict[str, int]], str]
    direction = ""
    if isinstance(block, Bars):
        draw = draw_bars
        if block.lower_is_better is not None:
            direction = "lower is better" if block.lower_is_better else "higher is better"
    else:
        draw = draw_lines if isinstance(block, Lines) else draw_histogram
    wide = Markup(draw(block, _WIDE, f"{uid}w", own)) if is_alone else None
    return _Chart(block, direction, Markup(draw(block, _NARROW, uid, own)), wide)


def _cut(block: TokenStrip) -> Iterator[list[tuple[int, list[Piece]]]]:
    return cut_rows(block.rows, _STRIP_COLUMNS)


def _strip_line(line: list[tuple[int, list[Piece]]], colours: list[int]) -> list[_StripLine]:
    return [
        _StripLine(colours[index], sum(piece.is_start for piece in pieces), pieces)
        for index, pieces in line
    ]
