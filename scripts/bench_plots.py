"""Plots as SVG, without anything but the standard library: bars by group, lines over a logarithmic axis, and dots over time.

Each function returns the text of a file. Colours and sizes are fixed, so that a plot changes only if its figures do.
"""

import math
from xml.sax.saxutils import escape

COLOURS = ("#1b6ca8", "#d1495b", "#edae49", "#00798c", "#66a182", "#8d6a9f", "#7a7a7a", "#3d405b")
FONT = 'font-family="sans-serif" font-size="12"'
WIDTH = 860


def _text(x, y, words, anchor="start", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(words)}</text>'


def _figure(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _file(height, title, parts):
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'role="img" aria-label="{escape(title)}" {FONT}>')
    paper = f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    return "\n".join([head, paper, _text(16, 24, title, more='font-size="15" font-weight="bold"'), *parts, "</svg>", ""])


def bars(title, groups, logarithmic=False):
    """Horizontal bars: `groups` are pairs of a heading and pairs of a name and a figure. One name has one colour."""
    names = list(dict.fromkeys(name for _, rows in groups for name, _ in rows))
    values = [value for _, rows in groups for _, value in rows if value > 0]
    most, least = max(values), min(values)
    left, right, height, parts = 190, WIDTH - 80, 44, []
    low = math.log10(least) - 0.3

    def length(value):
        if logarithmic:
            share = (math.log10(max(value, least)) - low) / (math.log10(most) - low)
        else:
            share = value / most
        return max(share * (right - left), 1)

    for heading, rows in groups:
        parts.append(_text(16, height + 12, heading, more='font-weight="bold"'))
        height += 20
        for name, value in rows:
            colour = COLOURS[names.index(name) % len(COLOURS)]
            parts.append(_text(left - 8, height + 12, name, "end"))
            parts.append(f'<rect x="{left}" y="{height + 1}" width="{length(value):.1f}" height="14" fill="{colour}"/>')
            parts.append(_text(left + length(value) + 6, height + 12, _figure(value)))
            height += 18
        height += 8
    return _file(height + 8, title + (" (logarithmic)" if logarithmic else ""), parts)


def lines(title, across, series, logarithmic=True, ticks=None, marks=()):
    """Lines from zero, over a logarithmic axis or a plain one: `series` are pairs of a name and pairs of figures.

    `ticks` are the places that are named below, each point if there are none; of `marks`, pairs of a place and a name, each place has a line.
    """
    left, right, top, bottom = 70, WIDTH - 200, 50, 300
    places = sorted({x for _, points in series for x, _ in points})
    most = max(y for _, points in series for _, y in points) * 1.1
    scale = (lambda x: math.log10(x or 1)) if logarithmic else (lambda x: x)
    first, last = scale(places[0]), scale(places[-1])

    def place(x, y):
        share = (scale(x) - first) / ((last - first) or 1)
        return left + share * (right - left), bottom - y / most * (bottom - top)

    parts = [f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#444444"/>', _text((left + right) / 2, bottom + 40, across, "middle")]
    for x in ticks if ticks is not None else places:
        parts.append(_text(place(x, 0)[0], bottom + 18, f"{x:,}", "middle"))
    named = list(dict.fromkeys(name for _, name in marks))
    for x, name in marks:
        colour = COLOURS[(len(series) + named.index(name)) % len(COLOURS)]
        parts.append(f'<path d="M{place(x, 0)[0]:.1f} {top}V{bottom}" stroke="{colour}" stroke-dasharray="2 3"/>')
    for step in range(5):
        y = most * step / 4
        parts.append(_text(left - 8, place(places[0], y)[1] + 4, _figure(y), "end"))
    for number, (name, points) in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if ticks is None:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in (place(*point) for point in points)]
        parts.append(f'<rect x="{right + 20}" y="{top + number * 20}" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(right + 38, top + number * 20 + 11, name))
    for number, name in enumerate(named, len(series)):
        parts.append(f'<rect x="{right + 20}" y="{top + number * 20}" width="12" height="12" fill="{COLOURS[number % len(COLOURS)]}"/>')
        parts.append(_text(right + 38, top + number * 20 + 11, name))
    return _file(bottom + 56, title, parts)


def course(title, across, series, marks=()):
    """Dots over time from zero, on a logarithmic axis upwards: `series` are pairs of a name and pairs of figures, `marks` of a moment and a word."""
    left, right, top, bottom = 70, WIDTH - 200, 50, 300
    end = max(x for _, points in series for x, _ in points) * 1.02
    values = [y for _, points in series for _, y in points if y > 0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))

    def place(x, y):
        share = (math.log10(max(y, 10**low)) - low) / ((high - low) or 1)
        return left + x / end * (right - left), bottom - share * (bottom - top)

    parts = [f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#444444"/>', _text((left + right) / 2, bottom + 40, across, "middle")]
    for step in range(7):
        x = end * step / 6
        parts.append(_text(place(x, 1)[0], bottom + 18, f"{x:.0f}", "middle"))
    for power in range(low, high + 1):
        y = place(0, 10**power)[1]
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#dddddd"/>')
        parts.append(_text(left - 8, y + 4, f"{10**power:g}", "end"))
    for x, word in marks:
        at = place(x, 1)[0]
        parts.append(f'<path d="M{at:.1f} {top}V{bottom}" stroke="#444444" stroke-dasharray="4 3"/>')
        parts.append(_text(at + 4, top + 10, word))
    for number, (name, points) in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.5" fill="{colour}"/>' for x, y in (place(*point) for point in points)]
        parts.append(f'<rect x="{right + 20}" y="{top + number * 20}" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(right + 38, top + number * 20 + 11, name))
    return _file(bottom + 56, title + " (logarithmic)", parts)
