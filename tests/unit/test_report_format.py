"""Numbers, sizes, durations and foreign text as people read them."""

import math

import pytest

from jeton.report.format import (
    format_bytes,
    format_number,
    format_percent,
    format_ratio,
    format_seconds,
    printable,
)

FORMATTERS = (format_bytes, format_number, format_percent, format_ratio, format_seconds)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (1234567, "1,234,567"),
        (10**18, "1,000,000,000,000,000,000"),
        (9.996, "10.0"),
        (999.6, "1,000"),
        (0.99996, "1.00"),
        (0.00009, "9.00e-05"),
        (-1.5, "-1.50"),
        (1e300, "1.00e+300"),
        (5e-324, "4.94e-324"),
    ],
)
def test_format_number_keeps_three_significant_digits(value: float, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999.7, "1.00 kB"),
        (999_600, "1.00 MB"),
        (3.2e9, "3.20 GB"),
        (1e20, "100,000 PB"),
    ],
)
def test_format_bytes(value: float, text: str) -> None:
    assert format_bytes(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2e-6, "2.00 µs"),
        (0.9996, "1.00 s"),
        (99.96, "1 min 40 s"),
        (59.99, "60.0 s"),
        (3599.7, "1 h 00 min"),
        (7199.0, "2 h 00 min"),
        (-3.0, "-3.00 s"),
        (0, "0 µs"),
    ],
)
def test_format_seconds_carries_into_the_next_unit(value: float, text: str) -> None:
    assert format_seconds(value) == text


def test_format_percent_and_ratio() -> None:
    assert format_percent(0.0304, signed=True) == "+3.0%"
    assert format_percent(-0.0001) == "0.0%"
    assert format_ratio(9.996) == "10.0x"
    assert format_ratio(1234.5) == "1,234x"


@pytest.mark.parametrize("formatter", FORMATTERS)
def test_what_is_no_number_says_so(formatter: object) -> None:
    assert callable(formatter)
    assert formatter(None) == formatter(math.nan) == "n/a"
    assert formatter(math.inf) == "∞"
    assert formatter(-math.inf) == "-∞"


def test_printable_shows_what_would_hide() -> None:
    assert printable("plain\n\ttext é 漢 🎉") == "plain\n\ttext é 漢 🎉"
    assert printable("\x1b]0;x\x07") == "␛]0;x␇"
    assert printable("\ud800|\u200b|\x85|\x7f|\uffff") == "\ufffd|<U+200B>|<U+0085>|␡|<U+FFFF>"
    assert printable("می\u200cخواهم") == "می\u200cخواهم"
