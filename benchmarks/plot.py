"""Plain line plots as SVG: no script, no font of its own, readable in print."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 140, 40, 50
COLOURS = ("#1f5fa8", "#b3541e", "#2f7d4f", "#7a3b8f", "#5a5a5a")
TICKS = 5


@dataclass(frozen=True)
class Line:
    """One line: its name and its points."""

    name: str
    across: Sequence[float]
    up: Sequence[float]


def line_plot(lines: Sequence[Line], *, title: str, across: str, up: str) -> str:
    """Return an SVG of the lines, both axes from zero."""
    most_x = max(max(line.across) for line in lines)
    most_y = _round_above(max(max(line.up) for line in lines))
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> str:
        return f"{LEFT + wide * x / most_x:.1f},{TOP + high * (1 - y / most_y):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="12" fill="#222">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="24" font-size="15">{escape(title)}</text>',
    ]
    parts += _axes(most_x, most_y, across, up)
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        points = " ".join(place(x, y) for x, y in zip(line.across, line.up, strict=True))
        y = TOP + 16 + 20 * number
        parts += [
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>',
            f'<rect x="{WIDTH - RIGHT + 14}" y="{y - 9}" width="12" height="4" fill="{colour}"/>',
            f'<text x="{WIDTH - RIGHT + 32}" y="{y}">{escape(line.name)}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _round_above(value: float) -> float:
    """Return the least 1, 2, 2.5 or 5 times a power of ten, times TICKS, that is not below."""
    power = 10.0 ** math.floor(math.log10(value / TICKS))
    return TICKS * power * next(n for n in (1, 2, 2.5, 5, 10) if value <= TICKS * power * n)


def _axes(most_x: float, most_y: float, across: str, up: str) -> list[str]:
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    bottom = TOP + high
    parts = []
    for tick in range(TICKS + 1):
        x, y = LEFT + wide * tick / TICKS, bottom - high * tick / TICKS
        parts += [
            f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + wide}" y2="{y:.1f}" stroke="#ddd"/>',
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
            f"{most_y * tick / TICKS:.3g}</text>",
            f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">'
            f"{most_x * tick / TICKS:,.0f}</text>",
        ]
    middle = TOP + high / 2
    return [
        *parts,
        f'<text x="{LEFT + wide / 2}" y="{HEIGHT - 10}" text-anchor="middle">'
        f"{escape(across)}</text>",
        f'<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">'
        f"{escape(up)}</text>",
    ]
