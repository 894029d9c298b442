"""The document model: what a report says, as plain values, before anyone decides how it looks.

Other rooms build a `Document` from their result dataclasses; `render_html` and `render_terminal`
show it. Whoever builds a document computes; nothing that renders one does.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, TypeVar

from jeton.errors import ConfigError

T = TypeVar("T")
Tone: TypeAlias = Literal["good", "bad", "neutral"]
MAX_HEAT = 6  # colours of a heat table beyond the first
_UNIT = "[A-Za-zµ/%×]{1,8}"
_NUMBER = re.compile(rf"[+\-−≈~<>≤≥]*\d[\d,.]*(e[+-]?\d+)?( ?{_UNIT})?( \d+ ?{_UNIT})?")
_NO_NUMBER = frozenset({"", "–", "-", "n/a", "∞", "-∞"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """The one sentence that says whether the result is good; shown in red when it is not.

    Attributes:
        ok: Whether it is good.
        text: The sentence.
        label: The word before it; "Passed" or "Failed" when empty.
    """

    ok: bool
    text: str
    label: str = ""

    @property
    def word(self) -> str:
        """The label with its mark."""
        return f"{'✓' if self.ok else '✗'} {self.label or ('Passed' if self.ok else 'Failed')}"


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with an introduction.

    Attributes:
        title: The heading.
        text: Paragraphs, separated by blank lines; plain text.
        anchor: Name for links into the page; made from the title when empty.
    """

    title: str
    text: str = ""
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One big number, already formatted."""

    label: str
    value: str
    detail: str = ""
    tone: Tone = "neutral"


@dataclass(frozen=True, slots=True)
class Figures:
    """A row of big numbers."""

    figures: Sequence[Figure]


@dataclass(frozen=True, slots=True)
class Cell:
    """A table cell with a tone; plain strings and numbers do where none is needed."""

    value: str | float | None
    tone: Tone = "neutral"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under column heads; columns that hold numbers are aligned to the right.

    Attributes:
        columns: Heads.
        rows: As many cells in each row as there are columns. Strings are shown as they are, numbers
            with three significant digits (integers in full), None as "n/a". The first cell of a
            row is its head.
        caption: One line above the table.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | str | float | None]]
    caption: str = ""

    def __post_init__(self) -> None:
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ConfigError(
                    f"row {index} of table {self.caption!r} has {len(row)} cells; "
                    f"it has {len(self.columns)} columns"
                )

    def cells(self) -> list[list[Cell]]:
        """Return the rows with every cell as a `Cell`."""
        return [[c if isinstance(c, Cell) else Cell(c) for c in row] for row in self.rows]

    def numeric_columns(self) -> list[bool]:
        """Return, for each column, whether its cells are numbers or say that there is none."""
        cells = self.cells()
        return [_is_numeric([row[i].value for row in cells]) for i in range(len(self.columns))]


def _is_numeric(values: Sequence[str | float | None]) -> bool:
    """Whether a column holds at least one number and no prose."""
    texts = [v for v in values if isinstance(v, str) and v not in _NO_NUMBER]
    has_number = bool(texts) or any(isinstance(v, (int, float)) for v in values)
    return has_number and all(_NUMBER.fullmatch(text) for text in texts)


@dataclass(frozen=True, slots=True)
class HeatTable:
    """Numbers in a grid, coloured by size; too wide for a terminal.

    Attributes:
        title: What is compared.
        columns: Heads.
        rows: Pairs of a row's head and its values, one for each column; None says that there is
            none.
        limits: Ascending; a value has the colour of the number of limits that it exceeds.
        note: One line under the table.
        digits: Decimals of the values.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[float | None]]]
    limits: Sequence[float]
    note: str = ""
    digits: int = 1

    def __post_init__(self) -> None:
        if len(self.limits) > MAX_HEAT or list(self.limits) != sorted(self.limits):
            raise ConfigError(f"limits must be at most {MAX_HEAT} and ascending: {self.limits}")
        for name, values in self.rows:
            if len(values) != len(self.columns):
                raise ConfigError(
                    f"row {name!r} has {len(values)} values; there are {len(self.columns)} columns"
                )

    def cells(self) -> list[tuple[str, list[tuple[str, int]]]]:
        """Return each row's head with its values as text, and their colours (-1: none)."""
        return [
            (
                name,
                [
                    ("–", -1)
                    if value is None
                    else (f"{value:.{self.digits}f}", sum(value > limit for limit in self.limits))
                    for value in values
                ],
            )
            for name, values in self.rows
        ]


@dataclass(frozen=True, slots=True)
class Bars:
    """Grouped horizontal bars with their values.

    Attributes:
        title: What is compared.
        unit: Unit of the values, such as "bytes per token".
        groups: Pairs of a group's label and its `(series, value)` pairs; a series has the same
            colour in every group. None or NaN says "not measured".
        lower_is_better: Which direction is good; None where neither is.
        note: One line under the bars.
        digits: Significant digits of the values.
    """

    title: str
    unit: str
    groups: Sequence[tuple[str, Sequence[tuple[str, float | None]]]]
    lower_is_better: bool | None = False
    note: str = ""
    digits: int = 3

    def series(self) -> list[str]:
        """Return the names of the series in order of appearance."""
        return list(dict.fromkeys(name for _, bars in self.groups for name, _ in bars))

    def labelled(self, styles: Mapping[str, T]) -> tuple["Bars", dict[str, T]]:
        """Return bars of one series named by their groups, and the style of each name.

        Several groups with one and the same series would repeat its name at each bar.
        """
        labels = [label for label, _ in self.groups]
        is_plain = all(labels) and all(len(bars) == 1 for _, bars in self.groups)
        if len(self.series()) != 1 or len(set(labels)) < 2 or not is_plain:
            return self, dict(styles)
        bars = [(label, value) for label, ((_, value),) in self.groups]
        only = self.series()[0]
        named = dict.fromkeys(labels, styles[only]) if only in styles else {}
        return replace(self, groups=[("", bars)]), named


@dataclass(frozen=True, slots=True)
class Lines:
    """Curves, such as bits per byte while healing.

    Attributes:
        title: What is shown.
        x_label: Horizontal axis, with its unit.
        y_label: Vertical axis, with its unit.
        series: Triples of name, xs and ys; points that are not finite (or not positive on a
            logarithmic axis) break the line.
        log_x: Whether the horizontal axis is logarithmic.
        note: One line under the chart.
        digits: Significant digits of the values at the curves' ends.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[tuple[str, Sequence[float], Sequence[float]]]
    log_x: bool = False
    note: str = ""
    digits: int = 3

    def __post_init__(self) -> None:
        for name, xs, ys in self.series:
            if len(xs) != len(ys):
                raise ConfigError(f"series {name!r} has {len(xs)} xs and {len(ys)} ys")


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts per bin, one colour for each series.

    Attributes:
        title: What is counted.
        bins: Labels of the bins, in order.
        series: Pairs of name and counts, as many as there are bins.
        x_label: What the bins are.
        y_label: What is counted, with its unit.
        note: One line under the chart.
    """

    title: str
    bins: Sequence[str]
    series: Sequence[tuple[str, Sequence[float]]]
    x_label: str = ""
    y_label: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        for name, counts in self.series:
            if len(counts) != len(self.bins):
                raise ConfigError(
                    f"series {name!r} has {len(counts)} counts; there are {len(self.bins)} bins"
                )


@dataclass(frozen=True, slots=True)
class TokenStrip:
    """One text cut by several tokenizers, line under line.

    Attributes:
        title: What the text is.
        rows: Pairs of label and tokens, source first. Rows whose tokens concatenate to the same
            bytes are shown interleaved, line by line.
        note: One line under the strip.
    """

    title: str
    rows: Sequence[tuple[str, Sequence[bytes]]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class MarkedText:
    """A text of tokens, each coloured by its mark.

    Attributes:
        title: What the text is.
        tokens: Pairs of mark and bytes.
        quiet: The mark that has the quiet colour; it stands first in the key.
        note: One line under the text.
    """

    title: str
    tokens: Sequence[tuple[str, bytes]]
    quiet: str = ""
    note: str = ""

    def marks(self) -> list[str]:
        """Return the marks, the quiet one first, the others in order of appearance."""
        quiet = [self.quiet] if self.quiet else []
        return list(dict.fromkeys([*quiet, *(mark for mark, _ in self.tokens)]))


@dataclass(frozen=True, slots=True)
class HeatStrip:
    """A text whose characters are shaded by a figure, such as the surprise of each.

    Attributes:
        title: What the text is.
        data: The text.
        values: The figure of each byte, as many as there are bytes; a character has their sum.
        unit: Of the figure; each step of shading is one unit.
        note: One line under the strip.
    """

    title: str
    data: bytes
    values: Sequence[float]
    unit: str
    note: str = ""

    def __post_init__(self) -> None:
        if len(self.values) != len(self.data):
            raise ConfigError(f"{len(self.values)} values for {len(self.data)} bytes")


@dataclass(frozen=True, slots=True)
class Code:
    """Text as it stands: a command, a sample of generated text."""

    text: str
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """A remark set apart."""

    text: str
    tone: Tone = "neutral"


Block: TypeAlias = (
    Section
    | Figures
    | Table
    | Bars
    | Lines
    | Histogram
    | TokenStrip
    | MarkedText
    | HeatStrip
    | HeatTable
    | Code
    | Note
)


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report.

    Attributes:
        title: What was done to what.
        subtitle: One line: model, text, machine, date.
        headline: The one sentence to remember.
        verdict: Whether the result is good; None where the question makes no sense.
        blocks: The body, in reading order.
        footer: Versions and the command that repeats the run.
    """

    title: str
    subtitle: str = ""
    headline: str = ""
    verdict: Verdict | None = None
    blocks: tuple[Block, ...] = ()
    footer: str = ""
