"""The charts of a report as SVG, for a given width: bars, lines and histograms."""

import math
from collections.abc import Sequence

from jeton.report import svg
from jeton.report.document import Bars, Histogram, Lines
from jeton.report.format import format_number

_BAR, _BAR_GAP, _GROUP_GAP = 18.0, 5.0, 16.0
_PLOT_HEIGHT = 200.0
_DASHES = ("", "7 4", "2 3", "9 3 2 3", "4 2", "1 4")
_LINE_HEIGHT = 20.0


def draw_bars(block: Bars, width: float, uid: str, colours: dict[str, int]) -> str:
    """Return grouped horizontal bars with values at their ends.

    The names stand on the left, or above the bars where they are long.
    """
    block, colours = block.labelled(colours)
    bars = [bar for _, group in block.groups for bar in group]
    value_room = 8 + max(
        (svg.text_width(format_number(value, block.digits)) for _, value in bars), default=0.0
    )
    name_room = max(map(svg.text_width, block.series()), default=0.0) + 12
    is_stacked = name_room > 0.32 * width
    name_room = 0.0 if is_stacked else name_room
    drawn = [value for value in (svg.finite(v) for _, v in bars) if value is not None]
    low, high = svg.spread(drawn, from_zero=True)
    start = name_room + (value_room if low < 0 else 0.0)
    scale = svg.Scale(low, high, start, width - value_room)
    body: list[str] = []
    y = 0.0
    for label, group in block.groups:
        if label:
            body.append(svg.text(svg.shorten(label, width), 0, y + 14, "group"))
            y += _LINE_HEIGHT + 4
        top = y
        for name, value in group:
            body.append(svg.text(svg.shorten(name, width), 0, y + _BAR - 5, "muted"))
            y += _LINE_HEIGHT - 1 if is_stacked else 0
            colour = colours.get(name, 0)
            body += _bar(svg.finite(value), format_number(value, block.digits), scale, y, colour)
            y += _BAR + _BAR_GAP
        axis = {"x1": scale(0), "x2": scale(0), "y1": top - 3, "y2": y - _BAR_GAP + 3}
        body.append(svg.element("line", class_="axis", **axis) if not is_stacked else "")
        y += _GROUP_GAP
    height = max(y - _GROUP_GAP + 4, _LINE_HEIGHT)
    return svg.picture(body, width, height, block.title, _describe_bars(block), uid)


def _bar(value: float | None, label: str, scale: svg.Scale, y: float, colour: int) -> list[str]:
    """Return one bar with its value; only the value where there is nothing to draw."""
    baseline = y + _BAR - 5
    if value is None:
        return [svg.text(label, scale(0) + 6, baseline, "value")]
    end = scale(value)
    box = {"x": min(end, scale(0)), "y": y, "height": _BAR, "width": abs(end - scale(0))}
    x, anchor = (end - 6, "end") if value < 0 else (end + 6, "start")
    rectangle = svg.element("rect", rx=1.5, class_=f"f{colour}", **box)
    return [rectangle, svg.text(label, x, baseline, "value", anchor)]


def _describe_bars(block: Bars) -> str:
    groups = (
        (f"{group}: " if group else "")
        + ", ".join(f"{name} {format_number(v, block.digits)}" for name, v in bars)
        for group, bars in block.groups
    )
    return f"{block.unit}. " + "; ".join(groups)


def draw_lines(block: Lines, width: float, uid: str, colours: dict[str, int]) -> str:
    """Return curves with axes, a legend above where there are several, and their last values."""
    curves = [
        (name, [_point(x, y, block.log_x) for x, y in zip(xs, ys, strict=True)])
        for name, xs, ys in block.series
    ]
    points = [point for _, curve in curves for point in curve if point is not None]
    last = [(name, next((p for p in reversed(c) if p is not None), None)) for name, c in curves]
    names = [name for name, _ in curves]
    body, top = _legend(names, width, colours, dashed=True) if len(names) > 1 else ([], 0.0)
    body.append(svg.text(svg.shorten(block.y_label, width), 0, top + 13, "muted"))
    top += 28
    value_room = (
        max((svg.text_width(format_number(p[1], block.digits)) for _, p in last if p), default=0)
        + 12
    )
    x_low, x_high = svg.spread([x for x, _ in points], from_zero=False)
    if points:
        x_low, x_high = _tight([x for x, _ in points], (x_low, x_high))
    y_low, y_high = svg.spread([y for _, y in points], from_zero=False)
    y_ticks = svg.ticks(y_low, y_high, 4)
    left = max(map(svg.text_width, svg.format_ticks(y_ticks)), default=0.0) + 8
    x_scale = svg.Scale(x_low, x_high, left, width - value_room)
    y_scale = svg.Scale(y_low, y_high, top + _PLOT_HEIGHT, top)
    body += _y_axis(y_ticks, y_scale, left, width - value_room)
    body += _x_axis(block, x_scale, top + _PLOT_HEIGHT, width)
    for index, (name, curve) in enumerate(curves):
        body += _curve(curve, x_scale, y_scale, index, colours.get(name, 0))
    body += _last_values(last, x_scale, y_scale, colours, block.digits)
    height = top + _PLOT_HEIGHT + 46
    return svg.picture(body, width, height, block.title, _describe_lines(block), uid)


def _tight(values: Sequence[float], fallback: tuple[float, float]) -> tuple[float, float]:
    """Return the interval of the values themselves where it has a length that can be drawn."""
    low, high = min(values), max(values)
    return (low, high) if high - low > 1e-9 * max(abs(low), abs(high), 1e-270) else fallback


def _point(x: float, y: float, log_x: bool) -> tuple[float, float] | None:
    """Return a point in the coordinates of the plot, or None where it has no place there."""
    drawn_x, drawn_y = svg.finite(x), svg.finite(y)
    if drawn_x is None or drawn_y is None or (log_x and drawn_x <= 0):
        return None
    return (math.log10(drawn_x) if log_x else drawn_x), drawn_y


def _y_axis(values: Sequence[float], scale: svg.Scale, left: float, right: float) -> list[str]:
    body = []
    for value, label in zip(values, svg.format_ticks(values), strict=True):
        y = scale(value)
        body.append(svg.element("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
        body.append(svg.text(label, left - 8, y + 4.5, "tick", "end"))
    return body


def _x_axis(block: Lines, scale: svg.Scale, y: float, width: float) -> list[str]:
    count = 4 if width < 600 else 8
    make = svg.log_ticks if block.log_x else svg.ticks
    line = {"x1": scale.start, "x2": scale.stop, "y1": y, "y2": y}
    body = [svg.element("line", class_="axis", **line)]
    reached = -math.inf
    values = make(scale.low, scale.high, count)
    labels = [svg.format_ticks([10.0**v])[0] for v in values] if block.log_x else None
    for value, label in zip(values, labels or svg.format_ticks(values), strict=True):
        x = scale(value)
        half = svg.text_width(label) / 2
        if x - half < reached:
            continue
        reached = x + half + 6
        body.append(svg.element("line", x1=x, x2=x, y1=y, y2=y + 4, class_="axis"))
        body.append(svg.text(label, min(x, width - half), y + 18, "tick", "middle"))
    label = svg.shorten(block.x_label + (" (logarithmic)" if block.log_x else ""), width)
    body.append(svg.text(label, (scale.start + scale.stop) / 2, y + 38, "muted", "middle"))
    return body


def _curve(
    curve: Sequence[tuple[float, float] | None],
    x_scale: svg.Scale,
    y_scale: svg.Scale,
    index: int,
    colour: int,
) -> list[str]:
    """Return a path that breaks where points are missing, and dots where points are few."""
    path: list[str] = []
    dots: list[str] = []
    pen = "M"
    known = [point for point in curve if point is not None]
    for position, point in enumerate(curve):
        if point is None:
            pen = "M"
            continue
        x, y = x_scale(point[0]), y_scale(point[1])
        path.append(f"{pen}{x:.1f} {y:.1f}")
        follower = curve[position + 1] if position + 1 < len(curve) else None
        is_alone = pen == "M" and follower is None
        if is_alone or len(known) <= 16:
            dots.append(svg.element("circle", cx=x, cy=y, r=2.6, class_=f"f{colour}"))
        pen = "L"
    if not path:
        return []
    dash = {"stroke_dasharray": _DASHES[index % len(_DASHES)]} if index else {}
    return [svg.element("path", d="".join(path), class_=f"l{colour}", **dash), *dots]


def _last_values(
    last: Sequence[tuple[str, tuple[float, float] | None]],
    x_scale: svg.Scale,
    y_scale: svg.Scale,
    colours: dict[str, int],
    digits: int,
) -> list[str]:
    """Return the last values at the curves' ends, pushed apart so that none covers another."""
    ends = [
        (
            y_scale(point[1]),
            x_scale(point[0]),
            format_number(point[1], digits),
            colours.get(name, 0),
        )
        for name, point in last
        if point is not None
    ]
    ends.sort()
    places = []
    reached = -math.inf
    for y, *_ in ends:
        reached = max(y + 4.5, reached + 15)
        places.append(reached)
    limit = max(y_scale.start, y_scale.stop) + 4.5
    for index in reversed(range(len(places))):
        places[index] = min(places[index], limit)
        limit = places[index] - 15
    body = []
    for (y, x, label, colour), place in zip(ends, places, strict=True):
        body.append(svg.element("circle", cx=x, cy=y, r=3.5, class_=f"f{colour}"))
        body.append(svg.text(label, x + 8, place, "value"))
    return body


def _describe_lines(block: Lines) -> str:
    parts = [f"{block.y_label} over {block.x_label}"]
    for name, xs, ys in block.series:
        known = [(x, y) for x, y in zip(xs, ys, strict=True) if svg.finite(y) is not None]
        if known:
            (x0, y0), (x1, y1) = known[0], known[-1]
            first = f"{format_number(y0, block.digits)} at {format_number(x0)}"
            final = f"{format_number(y1, block.digits)} at {format_number(x1)}"
            parts.append(f"{name}: {first} to {final}")
    return "; ".join(parts)


def _legend(
    names: Sequence[str], width: float, colours: dict[str, int], dashed: bool = False
) -> tuple[list[str], float]:
    """Return samples with their names, in as many lines as they need, and the height used."""
    body = []
    x, y = 0.0, 14.0
    for index, name in enumerate(names):
        label = svg.shorten(name, width - 40)
        sample = 30 if dashed else 20
        room = sample + svg.text_width(label) + 18
        if x > 0 and x + room - 18 > width:
            x, y = 0.0, y + _LINE_HEIGHT
        colour = colours.get(name, 0)
        if dashed:
            dash = {"stroke_dasharray": _DASHES[index % len(_DASHES)]} if index else {}
            d = f"M{x:.1f} {y - 4.5:.1f}h24"
            body.append(svg.element("path", d=d, class_=f"l{colour}", **dash))
        else:
            box = {"x": x, "y": y - 11, "width": 14.0, "height": 12.0}
            body.append(svg.element("rect", class_=f"f{colour}", **box))
        body.append(svg.text(label, x + sample, y))
        x += room
    return body, y + 12


def draw_histogram(block: Histogram, width: float, uid: str, colours: dict[str, int]) -> str:
    """Return upright bars, the series side by side in each bin."""
    names = [name for name, _ in block.series]
    body, top = _legend(names, width, colours) if len(names) > 1 else ([], 0.0)
    body.append(svg.text(svg.shorten(block.y_label, width), 0, top + 13, "muted"))
    top += 28
    drawn = [(name, [svg.finite(c) for c in counts]) for name, counts in block.series]
    known = [count for _, counts in drawn for count in counts if count is not None]
    low, high = svg.spread(known, from_zero=True)
    y_ticks = svg.ticks(low, high, 4)
    left = max(map(svg.text_width, svg.format_ticks(y_ticks)), default=0.0) + 8
    scale = svg.Scale(low, high, top + _PLOT_HEIGHT, top)
    body += _y_axis(y_ticks, scale, left, width)
    slot = (width - left) / max(len(block.bins), 1)
    bar = slot * 0.8 / max(len(names), 1)
    for series_index, (name, counts) in enumerate(drawn):
        for bin_index, count in enumerate(counts):
            if count:
                x = left + slot * (bin_index + 0.1) + bar * series_index
                y, height = min(scale(count), scale(0)), abs(scale(count) - scale(0))
                box = {"x": x, "y": y, "height": height, "width": max(bar - 1, bar * 0.8)}
                body.append(svg.element("rect", class_=f"f{colours.get(name, 0)}", **box))
    base = {"x1": left, "x2": width, "y1": scale(0), "y2": scale(0)}
    body.append(svg.element("line", class_="axis", **base))
    reached = -math.inf
    for index, label in enumerate(block.bins):
        x = left + slot * (index + 0.5)
        half = svg.text_width(label) / 2
        if x - half >= reached and x + half <= width + 4:
            reached = x + half + 8
            body.append(svg.text(label, x, top + _PLOT_HEIGHT + 18, "tick", "middle"))
    middle = (left + width) / 2
    x_label = svg.shorten(block.x_label, width)
    body.append(svg.text(x_label, middle, top + _PLOT_HEIGHT + 38, "muted", "middle"))
    description = "; ".join(
        f"{name}: "
        + ", ".join(f"{b} {format_number(c)}" for b, c in zip(block.bins, cs, strict=True))
        for name, cs in block.series
    )
    height = top + _PLOT_HEIGHT + (46 if block.x_label else 26)
    return svg.picture(body, width, height, block.title, description, uid)
