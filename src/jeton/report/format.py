"""Numbers and foreign text as people read them."""

import math
import unicodedata

MISSING = "n/a"
_BYTE_UNITS = ("kB", "MB", "GB", "TB", "PB")
_JOINERS = "\u200c\u200d"  # needed to write Persian and the Indic scripts; the only Cf let through


def format_number(value: float | None, digits: int = 3) -> str:
    """Return a number with `digits` significant digits; integers in full, with separators.

    Example:
        >>> format_number(0.012345), format_number(12345.6), format_number(7), format_number(1.2)
        ('0.0123', '12,346', '7', '1.20')
    """
    special = _special(value)
    if special is not None or value is None:
        return special or MISSING
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0:
        return "0"
    scientific = f"{value:.{digits - 1}e}"
    exponent = int(scientific.partition("e")[2])
    if not -5 < exponent < 15:
        return scientific
    return f"{value:,.{max(0, digits - 1 - exponent)}f}"


def _special(value: float | None) -> str | None:
    """Return the text of a value that is no finite number, else None."""
    if value is None or value != value:
        return MISSING
    if value in (math.inf, -math.inf):
        return "∞" if value > 0 else "-∞"
    return None


def format_bytes(size_bytes: float | None) -> str:
    """Return a size in decimal units.

    Example:
        >>> format_bytes(999), format_bytes(1530), format_bytes(20_971_520)
        ('999 B', '1.53 kB', '21.0 MB')
    """
    special = _special(size_bytes)
    if special is not None or size_bytes is None:
        return special or MISSING
    if abs(size_bytes) < 999.5:
        return f"{round(size_bytes)} B"
    scaled = size_bytes / 1000
    index = 0
    while abs(scaled) >= 999.5 and index < len(_BYTE_UNITS) - 1:
        scaled /= 1000
        index += 1
    return f"{format_number(scaled)} {_BYTE_UNITS[index]}"


def format_ratio(ratio: float | None) -> str:
    """Return a factor.

    Example:
        >>> format_ratio(1.274), format_ratio(12.34), format_ratio(250.2)
        ('1.27x', '12.3x', '250x')
    """
    special = _special(ratio)
    if special is not None or ratio is None:
        return special or MISSING
    decimals = 2 if abs(ratio) < 9.995 else 1 if abs(ratio) < 99.95 else 0
    return f"{ratio:,.{decimals}f}x"


def format_percent(fraction: float | None, decimals: int = 1, signed: bool = False) -> str:
    """Return a fraction in percent; `signed` marks growth with a plus.

    Example:
        >>> format_percent(0.1234), format_percent(0.02, signed=True), format_percent(-0.5, 0)
        ('12.3%', '+2.0%', '-50%')
    """
    special = _special(fraction)
    if special is not None or fraction is None:
        return special or MISSING
    rounded = round(fraction * 100, decimals) if abs(fraction) < 1e300 else fraction
    return f"{rounded + 0.0:{'+' if signed else ''},.{decimals}f}%"


def format_seconds(seconds: float | None) -> str:
    """Return a duration.

    Example:
        >>> format_seconds(0.00123), format_seconds(185), format_seconds(7620)
        ('1.23 ms', '3 min 05 s', '2 h 07 min')
    """
    special = _special(seconds)
    if special is not None or seconds is None:
        return special or MISSING
    if seconds < 0:
        return f"-{format_seconds(-seconds)}"
    if seconds < 0.9995:
        scaled, unit = (seconds * 1e6, "µs") if seconds < 0.9995e-3 else (seconds * 1e3, "ms")
        return f"{format_number(float(scaled))} {unit}"
    if seconds < 99.95:
        return f"{format_number(float(seconds))} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes:02d} min"


def printable(text: str) -> str:
    """Return text that is safe in HTML, XML and a terminal: no controls but newline and tab.

    Control characters become their pictures, surrogates U+FFFD, and whatever reorders or hides
    text (or is no character at all) its number, so that nothing in a report disguises itself.

    Example:
        >>> printable("a\\x1b[31mb\\u202ec")
        'a␛[31mb<U+202E>c'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_printable_char(char) for char in text)


def _printable_char(char: str) -> str:
    category = unicodedata.category(char)
    if char in "\n\t" or char in _JOINERS or category[0] not in "CZ" or category == "Zs":
        return char
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    if category == "Cs":
        return "\N{REPLACEMENT CHARACTER}"
    return "\N{SYMBOL FOR DELETE}" if code == 0x7F else f"<U+{code:04X}>"
