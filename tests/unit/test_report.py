"""One document with every block, as a page and in a terminal, with friendly and hostile content."""

import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from rich.console import Console

from jeton.core.run import to_json
from jeton.errors import ConfigError
from jeton.report.document import (
    Bars,
    Block,
    Cell,
    Code,
    Document,
    Figure,
    Figures,
    Histogram,
    Lines,
    MarkedText,
    Note,
    Section,
    Table,
    TokenStrip,
    Verdict,
)
from jeton.report.html import render_html
from jeton.report.palette import assign_colours, block_colours
from jeton.report.strip import break_lines, cut_rows, cut_tokens
from jeton.report.terminal import render_terminal

HOSTILE = (
    '<script>alert("x")</script>&amp;\'"><img src=https://evil.example/x onerror=y>\x1b[2J\x00'
)
VOID = {"meta", "link", "img", "br", "hr", "input"}

BLOCKS: dict[str, Block] = {
    "Compression": Section("Compression", "First paragraph.\n\nSecond paragraph."),
    "1.27x": Figures((Figure("Bytes per token", "1.27x", "2.9 to 3.7", "good"),)),
    "All figures": Table(
        ("", "Source", "Change"),
        (("bits per byte", 1.5, Cell("-5.1%", "good")), ("memory", None, Cell("+9%", "bad"))),
        "All figures",
    ),
    "Bytes per second": Bars(
        "Bytes per second",
        "bytes per second",
        (("ordinary", (("source", 148.0), ("destination", 201.0))), ("HF", (("source", None),))),
        note="Median of 5.",
    ),
    "While healing": Lines(
        "While healing", "step", "bits per byte", (("code", (0, 9), (2.5, 1.5)),)
    ),
    "Token lengths": Histogram(
        "Token lengths", ("1", "2"), (("source", (3, 4)),), "bytes", "tokens"
    ),
    "Both ways": TokenStrip(
        "Both ways", (("source", (b"de", b"f ", b"f\n")), ("destination", (b"def", b" f\n")))
    ),
    "Who drafted": MarkedText("Who drafted", (("target", b"de"), ("lookup", b"f\n"), ("x", b"g"))),
    "pip install jeton": Code("pip install jeton", "A command"),
    "Only English.": Note("Only English.", "bad"),
}


def document(*blocks: Block, **changes: object) -> Document:
    whole = Document(
        "Certificate", "subtitle", "One sentence.", Verdict(True, "Good."), blocks, "footer"
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def terminal(shown: Document, *, width: int = 80, colours: bool = False) -> str:
    stream = io.StringIO()
    system = "truecolor" if colours else None
    console = Console(file=stream, width=width, force_terminal=colours, color_system=system)
    render_terminal(shown, console)
    return stream.getvalue()


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.tags if name in attributes]


def svgs(html: str) -> list[ET.Element]:
    return [ET.fromstring(found) for found in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]


def hostile_document() -> Document:
    h = HOSTILE
    blocks: tuple[Block, ...] = (
        Section(h, h, h),
        Figures((Figure(h, h, h, "bad"),)),
        Table((h, h), ((h, Cell(h, "bad")),), h),
        Bars(h, h, ((h, ((h, 1.0), ("plain", -2.0))),), note=h),
        Lines(h, h, h, ((h, (1, 2), (3, 4)), ("b", (1,), (2,))), note=h),
        Histogram(h, (h,), ((h, (1,)), ("b", (2,))), h, h, h),
        MarkedText(h, ((h, h.encode()), ("b", b"\xff</code>")), h, h),
        TokenStrip(h, ((h, (h.encode(), b"<script>", b"\xff\n")), ("b", (b"</code>",))), h),
        Code(h, h),
        Note(h, "good"),
    )
    return Document(h, h, h, Verdict(False, h), blocks, h)


@pytest.mark.parametrize("needle", BLOCKS)
def test_each_block_is_shown_on_the_page_and_in_the_terminal(needle: str) -> None:
    shown = document(BLOCKS[needle])
    assert needle in Page(render_html(shown)).text
    assert needle in terminal(shown)


def test_a_whole_page_nests_and_names_its_pictures() -> None:
    html = render_html(document(*BLOCKS.values()))
    page = Page(html)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    pictures = svgs(html)
    assert len(pictures) == 4  # two charts beside one another, the third narrow and wide
    for picture in pictures:
        assert picture.get("role") == "img"
        assert (picture.get("aria-labelledby") or "").split() == [
            picture[0].get("id"),
            picture[1].get("id"),
        ]
    assert any(tag == "html" and attributes.get("lang") for tag, attributes in page.tags)
    assert {"col", "row"} <= set(page.values("scope"))


def test_the_page_asks_nothing_of_the_network() -> None:
    page = Page(render_html(hostile_document()))
    assert not {tag for tag, _ in page.tags} & {"script", "img", "iframe", "object", "embed"}
    for name in ("src", "href", "srcset", "data", "action"):
        assert all(value.startswith(("#", "data:")) for value in page.values(name))
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert "url(" not in render_html(document()) and "@import" not in render_html(document())


def test_hostile_text_is_shown_as_text() -> None:
    html = render_html(hostile_document())
    assert "<script" not in html and "<img" not in html
    assert "\x1b" not in html and "\x00" not in html
    assert '<script>alert("x")</script>&amp;' in Page(html).text
    assert len(svgs(html)) == 4


def test_hostile_text_sends_nothing_to_the_terminal() -> None:
    text = terminal(hostile_document())
    assert "\x1b" not in text and "\x00" not in text
    assert "<script>" in text
    assert "[bold]x[/bold]" in terminal(document(Note("[bold]x[/bold]")))


def test_a_bad_verdict_is_red_and_says_so_without_colours() -> None:
    bad = document(verdict=Verdict(False, "Worse than the source."))
    assert 'class="verdict bad"' in render_html(bad)
    assert "✗ Failed" in terminal(bad)
    assert re.search(r"\x1b\[1;31m✗ Failed", terminal(bad, colours=True))
    assert "Failed" not in terminal(document()) + render_html(document())


def test_the_terminal_keeps_to_its_width() -> None:
    for width in (40, 80):
        lines = terminal(document(*BLOCKS.values()), width=width).splitlines()
        assert max(map(len, lines)) <= width


def test_bars_are_as_long_as_their_values() -> None:
    html = render_html(document(BLOCKS["Bytes per second"]))
    for picture in svgs(html):
        rectangles = [e for e in picture.iter() if e.tag.endswith("rect")]
        source, destination = (float(e.get("width") or 0) for e in rectangles)
        assert source / destination == pytest.approx(148 / 201, rel=1e-3)
        assert "n/a" in [e.text for e in picture.iter()]
    assert "higher is better" in html


def test_bars_of_one_series_are_named_by_their_groups() -> None:
    one = Bars("t", "u", (("a", (("only", 1.0),)), ("b", (("only", 2.0),))))
    assert one.labelled({"only": 3}) == (
        Bars("t", "u", [("", [("a", 1.0), ("b", 2.0)])]),
        {"a": 3, "b": 3},
    )
    two = Bars("t", "u", (("a", (("x", 1.0),)), ("b", (("y", 2.0),))))
    assert two.labelled({"x": 0, "y": 1}) == (two, {"x": 0, "y": 1})
    assert "only" not in render_html(document(one))


def test_curves_break_where_a_point_is_missing() -> None:
    nan = float("nan")
    block = Lines("t", "x", "y", (("a", (1, 2, 3, 4, 5), (1.0, 2.0, nan, 4.0, 5.0)),))
    (path,) = [e for e in svgs(render_html(document(block)))[0].iter() if e.tag.endswith("path")]
    assert re.findall("[ML]", path.get("d") or "") == ["M", "L", "M", "L"]


def test_values_at_the_curves_ends_do_not_cover_each_other() -> None:
    series = tuple((name, (1, 2), (3.0, 1.0 + i / 1000)) for i, name in enumerate("abc"))
    picture = svgs(render_html(document(Lines("t", "x", "y", series, digits=4))))[0]
    ends = [e for e in picture.iter() if e.get("class") == "value"]
    assert sorted(e.text or "" for e in ends) == ["1.000", "1.001", "1.002"]
    heights = sorted(float(e.get("y") or 0) for e in ends)
    assert min(b - a for a, b in pairwise(heights)) >= 14


def test_numeric_columns_are_found() -> None:
    rows = (("a", "1.27x", "3 min 05 s", "12 apples are enough", None), ("b", "n/a", 3, "4", None))
    assert Table(("", "x", "t", "prose", "none"), rows).numeric_columns() == [
        False,
        True,
        True,
        False,
        False,
    ]


def test_blocks_refuse_what_does_not_fit() -> None:
    with pytest.raises(ConfigError, match="row 0 of table 'c' has 1 cells; it has 2 columns"):
        Table(("a", "b"), (("x",),), "c")
    with pytest.raises(ConfigError, match="2 xs and 1 ys"):
        Lines("t", "x", "y", (("s", (1, 2), (1,)),))
    with pytest.raises(ConfigError, match="1 counts; there are 2 bins"):
        Histogram("t", ("a", "b"), (("s", (1,)),))


def test_a_name_keeps_its_colour_and_a_block_has_distinct_ones() -> None:
    first = Bars("t", "u", (("", tuple((f"s{i}", 1.0) for i in range(9))),))
    second = Bars("t", "u", (("", (("s1", 1.0), ("s6", 1.0))),))
    colours = assign_colours((first, second))
    assert block_colours(second, colours)["s1"] == block_colours(first, colours)["s1"] == 1
    assert len(set(block_colours(second, colours).values())) == 2


def test_lines_of_a_strip_hold_the_same_text_in_every_row() -> None:
    rows = (("a", (b"de", b"f f(", b")\n\tx")), ("b", (b"def", b" f()", b"\n", b"\tx\n")))
    separate = list(cut_rows(rows, 80))
    assert [[index for index, _ in line] for line in separate] == [[0], [0], [1], [1]]
    same = (rows[0], ("b", (b"def", b" f()", b"\n", b"\tx")))
    shown = [
        ["".join(text for piece in pieces for text, _ in piece.runs) for _, pieces in line]
        for line in cut_rows(same, 80)
    ]
    assert shown == [["def·f()⏎"] * 2, ["→x"] * 2]
    last = list(cut_rows(same, 80))[1]
    assert [[piece.is_start for piece in pieces] for _, pieces in last] == [[False], [True]]


def test_long_lines_break_after_spaces_and_never_inside_a_character() -> None:
    data = b"aaa bbb ccc ddd"
    pieces = [
        data[i:j] for i, j in zip([0, *break_lines(data, 9)], break_lines(data, 9), strict=False)
    ]
    assert pieces == [b"aaa bbb ", b"ccc ddd"]
    wide = "漢字仮名".encode()
    assert break_lines(wide, 4) == [6, 12]
    assert break_lines(wide, 24, cuts=frozenset({1, 4, 7, 10})) == [6, 12]  # shown as <e6><bc>...
    assert break_lines(b"aaaa\n", 4) == [5]


def test_a_character_cut_by_tokens_is_shown_as_bytes() -> None:
    (line,) = cut_tokens((b"\xc3", b"\xa9"), (2,))
    assert [piece.runs for piece in line] == [(("<c3>", True),), (("<a9>", True),)]


def test_anchors_differ_and_the_contents_lead_to_them() -> None:
    html = render_html(
        document(Section("A b!"), Section("a-b"), Section("!?"), Section("x", "", "y"))
    )
    page = Page(html)
    assert page.values("href")[2:] == ["#a-b", "#a-b-2", "#section", "#y"]
    assert {"a-b", "a-b-2", "section", "y"} <= set(page.values("id"))


def test_an_empty_document_renders() -> None:
    empty: tuple[Block, ...] = (
        Figures(()),
        Table((), ()),
        Bars("", "", ()),
        Lines("", "", "", ()),
        Histogram("", (), ()),
        TokenStrip("", ()),
        TokenStrip("", (("a", ()), ("b", (b"",)))),
        MarkedText("", ()),
        Code(""),
        Note(""),
        Section(""),
    )
    html = render_html(Document("", blocks=empty))
    Page(html)
    svgs(html)
    terminal(Document("", blocks=empty))


def test_a_document_is_plain_json() -> None:
    shown = to_json(document(*BLOCKS.values()))
    assert shown["blocks"][0]["title"] == "Compression"
    assert shown["blocks"][6]["rows"][0][1][0] == "de"
