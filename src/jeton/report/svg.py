"""Small SVG: elements, scales and ticks; colours come from classes of the page around it."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from jeton.report.format import printable

FONT_SIZE = 13
_LARGEST = 1e290  # sums and differences of two such numbers stay finite
_SMALLEST = 1e-290


def element(name: str, *children: str, **attributes: str | float) -> str:
    """Return an element; children are markup already, attributes are escaped.

    Underscores in attribute names stand for hyphens and a final one is dropped (`class_`).

    Example:
        >>> element("rect", x=1.0, class_="s0")
        '<rect x="1" class="s0"/>'
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}={quoteattr(_attribute(value))}"
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{''.join(children)}</{name}>" if children else f"<{name}{written}/>"


def _attribute(value: str | float) -> str:
    return printable(value) if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def text(content: str, x: float, y: float, class_: str = "", anchor: str = "start") -> str:
    """Return one line of text; `anchor` is start, middle or end."""
    return element("text", escape(printable(content)), x=x, y=y, class_=class_, text_anchor=anchor)


def picture(
    body: Iterable[str], width: float, height: float, title: str, description: str, uid: str
) -> str:
    """Return a whole SVG that says in words what it shows."""
    return element(
        "svg",
        element("title", escape(printable(title)) or " ", id=f"{uid}-t"),
        element("desc", escape(printable(description)) or " ", id=f"{uid}-d"),
        *body,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
        aria_labelledby=f"{uid}-t {uid}-d",
    )


def text_width(content: str) -> float:
    """Return about how wide a text is at `FONT_SIZE`; rather too wide than too narrow."""
    return FONT_SIZE * sum(
        1.0 if ord(c) > 0x2E80 else 0.32 if c in " .,:;!'|()ijl" else 0.86 if c in "mwMW" else 0.58
        for c in printable(content)
    )


def shorten(content: str, width: float) -> str:
    """Return the text, cut with an ellipsis where it is wider than `width`."""
    if text_width(content) <= width:
        return content
    kept = content
    while kept and text_width(kept) + FONT_SIZE > width:
        kept = kept[:-1]
    return kept.rstrip() + "…"


def finite(value: float | None) -> float | None:
    """Return a number that can be drawn: None for NaN and infinities, extremes pulled in."""
    if value is None or not math.isfinite(value):
        return None
    if abs(value) < _SMALLEST:
        return 0.0
    return math.copysign(min(abs(value), _LARGEST), value)


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps the interval [low, high] to [start, stop] linearly."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """Return the position of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)


def spread(values: Sequence[float], from_zero: bool) -> tuple[float, float]:
    """Return an interval of positive length that holds the values, with a margin or with zero."""
    if from_zero:
        low, high = min(0.0, *values, 0.0), max(0.0, *values, 0.0)
        return (low, high) if high > low else (0.0, 1.0)
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    margin = max((high - low) * 0.06, 1e-9 * max(abs(low), abs(high)))
    return (low - margin, high + margin) if margin >= _SMALLEST else (low - 1.0, high + 1.0)


def ticks(low: float, high: float, count: int) -> list[float]:
    """Return about `count` round numbers inside [low, high].

    Example:
        >>> ticks(0.0, 1.0, 5)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    found = [(first + i) * step for i in range(count + 2)]
    digits = 12 - math.floor(math.log10(max(abs(low), abs(high))))
    rounded = [round(t, digits) if -200 < digits < 200 else t for t in found]
    return sorted({t for t in rounded if low - raw * 1e-6 <= t <= high + raw * 1e-6})


def log_ticks(low: float, high: float, count: int) -> list[float]:
    """Return exponents (base 10) of round numbers inside [10**low, 10**high]."""
    factors = (0.0, math.log10(2), math.log10(5)) if high - low < 2 else (0.0,)
    every = max(1, math.ceil((high - low) / count))
    decades = range(math.floor(low), math.ceil(high) + 1)
    found = [d + f for d in decades if d % every == 0 for f in factors]
    inside = [t for t in found if low <= t <= high]
    return inside or [low, high]


def format_ticks(values: Sequence[float]) -> list[str]:
    """Return the labels of an axis: no more digits than needed, the same decimals throughout.

    Example:
        >>> format_ticks([1.5, 2.0, 1500.0]), format_ticks([0.0, 2e9])
        (['1.5', '2.0', '1,500.0'], ['0', '2e9'])
    """
    largest = max(map(abs, values), default=0.0)
    if largest != 0 and not 1e-3 <= largest < 1e7:
        return [_scientific(value) for value in values]
    shortest = [f"{value:.6f}".rstrip("0") for value in values]
    decimals = max((len(label.partition(".")[2]) for label in shortest), default=0)
    return [f"{value:,.{decimals}f}" for value in values]


def _scientific(value: float) -> str:
    mantissa, _, exponent = f"{value:.6g}".partition("e")
    if not exponent and value:
        mantissa, _, exponent = f"{value:.3e}".partition("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa
