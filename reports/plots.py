"""Plots as SVG by attributes alone, shared by the report and the pages (whose policy has no style).

A plot holds its figures as text as well: it can be read without seeing the marks, in grey print,
and by a screen reader from its title and description. Lengths are units of the view box.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from markupsafe import Markup

from reports.typography import percent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reports.figures import Lens, Part

WIDE, NARROW = 600, 320
NEAR = 0.52
INK, MUTED, GRID, BAND = "#1c2a3e", "#56657a", "#d8dee6", "#f1f5f8"
BEFORE, AFTER, CHANCE = "#64748a", "#0b5f63", "#b35c00"

SVG = Markup(
    '<svg class="plot" viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img" aria-label="{2}"'
    ' font-family="Lethe Latin, Inter, Noto Sans, sans-serif" xmlns="http://www.w3.org/2000/svg">'
    "<title>{2}</title><desc>{3}</desc>{4}</svg>"
)
ROW = Markup("<g><title>{}</title>{}</g>")
RECTANGLE = Markup('<rect x="0" y="{}" width="{}" height="{}" fill="{}"/>')
TEXT = Markup(
    '<text x="{}" y="{}" font-size="{}" fill="{}" text-anchor="{}" font-weight="{}">{}</text>'
)
PATH = Markup('<path d="{}" fill="none" stroke="{}" stroke-width="{}" stroke-dasharray="{}"/>')
CIRCLE = Markup('<circle cx="{}" cy="{}" r="{}" fill="{}" stroke="{}" stroke-width="1.3"/>')

SECTIONS = {"form": "By form of the question", "language": "By language", "": "Altogether"}


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where things stand: the axis from `left` over `span`, the figures in columns or above it.

    floor: the rate at which the axis begins.
    """

    width: int
    left: float
    span: float
    row: float
    size: float
    beside: bool
    floor: float = 0.0

    def at(self, rate: float) -> float:
        """The place of a rate on the axis, which ends at 100 %."""
        return round(self.left + (rate - self.floor) / (1 - self.floor) * self.span, 2)

    @property
    def marks(self) -> list[tuple[float, str]]:
        """Rates with their words: where the axis begins, its middle and its end."""
        rates = (self.floor, (1 + self.floor) / 2)
        return [*((rate, f"{100 * rate:.0f}") for rate in rates), (1.0, "100 %")]


_WIDE = _Frame(WIDE, 226, 186, 19, 10.5, beside=True)
_NARROW = _Frame(NARROW, 6, NARROW - 14, 41, 12, beside=False)


def rates(rows: Sequence[Part], title: str, *, stays: bool, width: int = WIDE) -> Markup:
    """Return parts of the probes before and after, with intervals; chance is marked.

    stays: whether a high rate is wanted, so that the lower bound is the one that is told.
    """
    frame = _WIDE if width >= WIDE else _NARROW
    if stays and min(min(row["before_low"], row["after_low"]) for row in rows) > NEAR:
        # Points, not bars: an axis from the half on hides nothing and shows small losses.
        frame = replace(frame, floor=0.5)
    sections = _sections(rows)
    chance = next((row["after"] for row in rows if row["key"] == "control"), None)
    bands: list[Markup] = []
    lanes: list[tuple[float, float]] = []
    drawn: list[Markup] = []
    y = 22.0 if frame.beside else 4.0
    for name, own in sections.items():
        if len(sections) > 1:
            drawn.append(_text(0, y + 13, SECTIONS[name], frame.size, MUTED, weight="700"))
            y += 19
        for number, row in enumerate(own):
            if number % 2 == 0:
                bands.append(RECTANGLE.format(round(y, 2), frame.width, frame.row, BAND))
            drawn.append(_row(frame, row, y, stays=stays))
            # Above its marks a narrow row has words, which no line is to cross.
            lanes.append((y if frame.beside else y + 20, y + frame.row))
            y += frame.row
        y += 4
    axis = _axis(frame, lanes, chance)
    head = _head(frame, stays=stays) if frame.beside else Markup("")
    legend, height = _legend(frame, y + 16, marked=chance is not None)
    parts = [*bands, axis, head, *drawn, legend]
    return _svg(frame.width, height, title, _told(rows, stays=stays), parts)


def lens(found: Lens, title: str, *, width: int = WIDE) -> Markup:
    """Return the share of prompts whose value stands near the top, layer by layer."""
    frame = _WIDE if width >= WIDE else _NARROW
    left, high = 38.0, 110.0
    layers = len(found["shares"])
    step = (frame.width - left - 12) / max(layers - 1, 1)
    every = -(-layers // (16 if frame.beside else 9))

    def place(layer: int, share: float) -> tuple[float, float]:
        return round(left + layer * step, 2), round(12 + (1 - share) * high, 2)

    drawn = []
    for share in (0.0, 0.5, 1.0):
        y = place(0, share)[1]
        drawn.append(_path(f"M{left} {y}H{frame.width - 12}", GRID, 0.8))
        drawn.append(_text(left - 6, y + 3.5, f"{share:.0%}", frame.size, MUTED, anchor="end"))
    for layer in range(0, layers, every):
        x = place(layer, 0)[0]
        drawn.append(_text(x, high + 28, str(layer), frame.size, MUTED, anchor="middle"))
    middle = (left + frame.width) / 2
    drawn.append(_text(middle, high + 43, "layer", frame.size, MUTED, anchor="middle"))
    chance = [place(*pair) for pair in enumerate(found["chance"])]
    own = [place(*pair) for pair in enumerate(found["shares"])]
    if chance:
        drawn.append(_path(_through(chance), CHANCE, 1.4, dashed=True))
    drawn.append(_path(_through(own), AFTER, 1.8))
    drawn += [_dot(x, y, AFTER, filled=True) for x, y in own]
    keys = [("line", AFTER, "the person, after the change")]
    if chance:
        keys.append(("dash", CHANCE, "people who do not exist (chance)"))
    if beyond_chance(found):
        drawn.append(CIRCLE.format(*own[found["layer"]], 6.5, "none", INK))
        keys.append(("ring", INK, "most beyond chance"))
    legend, height = _keys(frame, high + 62, keys)
    return _svg(frame.width, height, title, _told_lens(found), [*drawn, legend])


def beyond_chance(found: Lens) -> bool:
    """Whether any layer shows more of the value than chance does."""
    layer = found["layer"]
    return not found["chance"] or found["shares"][layer] > found["chance"][layer]


def told_lens(found: Lens) -> str:
    """Return what the plot of a lens shows, in words."""
    layer = found["layer"]
    most = f"{percent(found['shares'][layer])}, at most {percent(found['upper_95'])} with 95 %"
    chance = f" (chance: {percent(found['chance'][layer])})" if found["chance"] else ""
    where = (
        f"Most beyond chance at layer {layer}"
        if beyond_chance(found)
        else f"No layer shows more than chance; nearest to it is layer {layer}"
    )
    return (
        "Logit lens: each layer’s hidden state read by the model’s own output layer, over"
        f" {found['probes']} prompts. A prompt counts where the first token of the value is among"
        f" the {found['budget']} likeliest. {where}: {most} confidence{chance}."
    )


# --- Rows of rates ---


def _sections(rows: Iterable[Part]) -> dict[str, list[Part]]:
    found: dict[str, list[Part]] = {}
    for row in rows:
        name, colon, _ = row["key"].partition(":")
        found.setdefault(name if colon else "", []).append(row)
    return found


def _row(frame: _Frame, row: Part, y: float, *, stays: bool) -> Markup:
    middle = y + (frame.row / 2 if frame.beside else 29)
    colour = CHANCE if row["key"] in ("control", "indirect_control") else AFTER
    strong = "700" if row["key"] in ("all", "indirect") else "400"
    label = row["label"][:1].upper() + row["label"][1:]
    parts = []
    if frame.beside:
        base = middle + 3.6
        figures = (percent(row["before"]), percent(row["after"]), percent(_bound(row, stays)))
        parts.append(_text(6, base, label, frame.size, INK, weight=strong))
        parts.append(_text(214, base, str(row["probes"]), frame.size, MUTED, anchor="end"))
        for x, text, weight in zip((478, 534, 594), figures, ("400", "700", "400"), strict=True):
            ink = MUTED if weight == "400" else INK
            parts.append(_text(x, base, text, frame.size, ink, anchor="end", weight=weight))
    else:
        side = "≥" if stays else "≤"
        told = f"{percent(row['after'])} ({side} {percent(_bound(row, stays))})"
        parts.append(_text(6, y + 15, _short(label), frame.size, INK, weight=strong))
        right = frame.width - 6
        parts.append(_text(right, y + 15, told, frame.size, INK, anchor="end", weight="700"))
    before = (row["before_low"], row["before"], row["before_high"])
    after = (row["after_low"], row["after"], row["after_high"])
    parts.append(_interval(frame, middle - 3.4, before, BEFORE, filled=False))
    parts.append(_interval(frame, middle + 3.4, after, colour, filled=True))
    return ROW.format(_sentence(row, stays=stays), Markup("").join(parts))


def _interval(
    frame: _Frame, y: float, rates: tuple[float, float, float], ink: str, *, filled: bool
) -> Markup:
    low, rate, high = (frame.at(one) for one in rates)
    return _path(f"M{low} {round(y, 2)}H{high}", ink, 1.6) + _dot(rate, y, ink, filled=filled)


def _bound(row: Part, stays: bool) -> float:  # noqa: FBT001 -- handed through from a keyword
    return row["after_low"] if stays else row["after_high"]


def _short(label: str) -> str:
    # What stands in brackets has no room on a phone; the section says it.
    return label.partition(" (")[0]


def _head(frame: _Frame, *, stays: bool) -> Markup:
    words = [
        (214.0, "Probes", "end"),
        *((frame.at(rate), text, "middle") for rate, text in frame.marks),
        (478.0, "Before", "end"),
        (534.0, "After", "end"),
        (594.0, "at least" if stays else "at most", "end"),
    ]
    drawn = [_text(x, 13, text, frame.size, MUTED, anchor=anchor) for x, text, anchor in words]
    return Markup("").join(drawn)


def _axis(frame: _Frame, lanes: Sequence[tuple[float, float]], chance: float | None) -> Markup:
    def lines(x: float) -> str:
        return "".join(f"M{round(x, 2)} {top}V{bottom}" for top, bottom in lanes)

    bottom = lanes[-1][1] + 4
    quarters = (frame.left + number * frame.span / 4 for number in range(5))
    drawn = [_path("".join(lines(x) for x in quarters), GRID, 0.7)]
    if chance is not None:
        drawn.append(_path(lines(frame.at(chance)), CHANCE, 1.1, dashed=True))
    if not frame.beside:
        drawn += [
            _text(frame.at(rate), bottom + 8, text, frame.size, MUTED, anchor=anchor)
            for (rate, text), anchor in zip(frame.marks, ("start", "middle", "end"), strict=True)
        ]
    return Markup("").join(drawn)


def _legend(frame: _Frame, y: float, *, marked: bool) -> tuple[Markup, float]:
    keys = [("hollow", BEFORE, "before"), ("filled", AFTER, "after")]
    keys.append(("bar", AFTER, "between its one-sided 95 % bounds"))
    if marked:
        keys.append(("dash", CHANCE, "chance: people who do not exist"))
    if frame.floor:
        keys.append(("", MUTED, f"The axis begins at {100 * frame.floor:.0f} %."))
    return _keys(frame, y if frame.beside else y + 14, keys)


def _keys(frame: _Frame, y: float, keys: Sequence[tuple[str, str, str]]) -> tuple[Markup, float]:
    """Return the legend from the height y on, and where it ends."""
    drawn, x = [], 6.0
    for mark, ink, words in keys:
        start = 20 if mark else 0
        length = start + 6 + len(words) * frame.size * 0.53
        if x > 6 and x + length > frame.width:
            x, y = 6.0, y + frame.size * 1.6
        if mark:
            drawn.append(_mark(mark, ink, x, y - 3.5))
        drawn.append(_text(x + start, y, words, frame.size, MUTED))
        x += length + 8
    return Markup("").join(drawn), y + 8


def _mark(mark: str, ink: str, x: float, y: float) -> Markup:
    if mark in ("hollow", "filled"):
        return _dot(x + 8, y, ink, filled=mark == "filled")
    if mark == "ring":
        return CIRCLE.format(x + 8, y, 5.5, "none", ink)
    return _path(f"M{x} {y}h16", ink, 1.6, dashed=mark == "dash")


# --- What is read out ---


def _sentence(row: Part, *, stays: bool) -> str:
    side = "at least" if stays else "at most"
    return (
        f"{row['label']}: {row['probes']} probes, before {percent(row['before'])}, "
        f"after {percent(row['after'])}, {side} {percent(_bound(row, stays))}"
    )


def _told(rows: Iterable[Part], *, stays: bool) -> str:
    return "; ".join(_sentence(row, stays=stays) for row in rows) + "."


def _told_lens(found: Lens) -> str:
    rows = [f"layer {layer}: {percent(own)}" for layer, own in enumerate(found["shares"])]
    for layer, share in enumerate(found["chance"]):
        rows[layer] += f", chance {percent(share)}"
    return "; ".join(rows) + "."


# --- Marks ---


def _svg(width: float, height: float, title: str, told: str, parts: Iterable[Markup]) -> Markup:
    return SVG.format(round(width, 1), round(height, 1), title, told, Markup("").join(parts))


def _text(
    x: float, y: float, words: str, size: float, ink: str, *, anchor: str = "start",
    weight: str = "400",
) -> Markup:  # fmt: skip
    return TEXT.format(round(x, 2), round(y, 2), size, ink, anchor, weight, words)


def _path(d: str, ink: str, wide: float, *, dashed: bool = False) -> Markup:
    return PATH.format(d, ink, wide, "3 2.4" if dashed else "none")


def _dot(x: float, y: float, ink: str, *, filled: bool) -> Markup:
    return CIRCLE.format(round(x, 2), round(y, 2), 2.9, ink if filled else "#ffffff", ink)


def _through(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points)
