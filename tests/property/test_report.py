"""Whatever a document holds, both renderers show it, and what they write is well-formed."""

import io
import re
import xml.etree.ElementTree as ET

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from jeton.report.document import (
    Bars,
    Block,
    Code,
    Document,
    Histogram,
    Lines,
    MarkedText,
    Note,
    TokenStrip,
)
from jeton.report.format import format_bytes, format_number, format_ratio, format_seconds, printable
from jeton.report.html import render_html
from jeton.report.strip import break_lines, cut_rows, cut_tokens
from jeton.report.terminal import render_terminal

FLOATS = st.floats() | st.integers(-(10**6), 10**6) | st.sampled_from([0.0, -0.0, 5e-324, 1.8e308])
TEXT = st.text(max_size=12) | st.characters(categories=["Cs", "Cc", "Cf", "Cn"])
TOKENS = st.lists(
    st.binary(max_size=6) | st.sampled_from([b"\n", b" ", b"<b>", "é漢🎉".encode()]), max_size=12
)


def render(*blocks: Block) -> None:
    """Render a document both ways, and check what must hold of any."""
    document = Document("t", blocks=blocks)
    html = render_html(document)
    html.encode()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", html)
    for found in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        picture = ET.fromstring(found)
        for shape in picture.iter():
            for value in shape.attrib.values():
                assert not re.search(r"\b(nan|inf)\b", value.replace("font", "")), value
            for side in ("width", "height", "r"):
                assert float(shape.get(side) or 0) >= 0
        check_bounds(picture)
    stream = io.StringIO()
    render_terminal(document, Console(file=stream, width=80, color_system=None))
    stream.getvalue().encode()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", stream.getvalue())


def check_bounds(picture: ET.Element) -> None:
    """Bars, dots and axes lie inside the picture."""
    _, _, width, height = map(float, (picture.get("viewBox") or "").split())
    for shape in picture.iter():
        if shape.tag.endswith("rect"):
            x, y = float(shape.get("x") or 0), float(shape.get("y") or 0)
            assert x >= -0.1 and x + float(shape.get("width") or 0) <= width + 0.1
            assert y >= -0.1 and y + float(shape.get("height") or 0) <= height + 0.1
        if shape.tag.endswith("circle"):
            assert -0.1 <= float(shape.get("cx") or 0) <= width + 0.1
            assert -0.1 <= float(shape.get("cy") or 0) <= height + 0.1


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(TEXT, st.lists(st.tuples(TEXT, FLOATS | st.none()), max_size=4)), max_size=4)
)
def test_bars_of_any_numbers(groups: list[tuple[str, list[tuple[str, float | None]]]]) -> None:
    render(Bars("t", "u", groups))


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(TEXT, st.lists(st.tuples(FLOATS, FLOATS), max_size=20)), max_size=3),
    st.booleans(),
)
def test_curves_of_any_numbers(
    curves: list[tuple[str, list[tuple[float, float]]]], log_x: bool
) -> None:
    series = [(name, [x for x, _ in points], [y for _, y in points]) for name, points in curves]
    render(Lines("t", "x", "y", series, log_x=log_x))


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.lists(st.tuples(TEXT, FLOATS, FLOATS), max_size=12))
def test_histograms_of_any_numbers(rows: list[tuple[str, float, float]]) -> None:
    series = [("a", [a for _, a, _ in rows]), ("b", [b for _, _, b in rows])]
    render(Histogram("t", [label for label, _, _ in rows], series))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(TOKENS, TOKENS, TEXT)
def test_strips_of_any_bytes(tokens: list[bytes], others: list[bytes], text: str) -> None:
    whole = [b"".join(tokens)]
    render(TokenStrip(text, [(text, tokens), ("whole", whole)]), Code(text), Note(text))
    render(TokenStrip(text, [("a", tokens), ("b", others)]))
    render(MarkedText(text, [(text, token) for token in tokens] + [("b", b) for b in others]))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(TOKENS, st.integers(1, 20))
def test_cutting_a_strip_loses_no_byte_and_counts_each_token_once(
    tokens: list[bytes], width: int
) -> None:
    data = b"".join(tokens)
    ends = break_lines(data, width)
    assert ends == sorted(set(ends)) and (ends[-1:] == [len(data)] or not data)
    assert {i + 1 for i, byte in enumerate(data) if byte == 10} <= set(ends)
    pieces = [piece for line in cut_tokens(tokens, ends) for piece in line]
    assert [p.token_index for p in pieces if p.is_start] == [i for i, t in enumerate(tokens) if t]
    for line in cut_rows([("a", tokens), ("b", [data])], width):
        assert [index for index, _ in line] == [0, 1]


@settings(derandomize=True, deadline=None, max_examples=200)
@given(FLOATS)
def test_numbers_keep_their_value_within_their_digits(value: float) -> None:
    for show in (format_bytes, format_ratio, format_seconds):
        assert show(value)
    shown = format_number(value).replace(",", "")
    if abs(value) < 1e308:  # beyond, three digits may round to infinity
        assert abs(float(shown) - value) <= abs(value) * 0.00501


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.text() | TEXT)
def test_printable_is_well_formed_and_stable(text: str) -> None:
    shown = printable(text)
    ET.fromstring("<a>" + shown.replace("&", "&amp;").replace("<", "&lt;") + "</a>")
    assert printable(shown) == shown
