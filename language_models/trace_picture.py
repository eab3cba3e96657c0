"""Heat maps of a trace as a picture: SVG without script or fonts of its own, and PNG.

Both draw the same shapes. The colour gets darker with the probability, so that a print in grey
reads as well; each cell also holds its number. Rows are named by role: no text of a person is in
a picture unless the caller put token labels into the maps.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from language_models.trace_maps import TraceMap
    from language_models.tracing import Site

CELL_WIDTH, CELL_HEIGHT = 34, 24
MARGIN, LABEL_GAP = 16, 8
TITLE_HEIGHT, AXIS_HEIGHT, PANEL_GAP = 26, 20, 16
TEXT_SIZE, TITLE_SIZE = 12, 14
# Mean width of a letter, and that of Thai, Lao and Japanese signs, in sizes of the text.
LATIN_WIDTH, OTHER_WIDTH = 0.56, 1.0
SCALE_WIDTH = 160
# From almost white to dark blue; both ends carry text well.
COLOURS = ((247, 251, 255), (158, 202, 225), (49, 130, 189), (8, 48, 107))
DARK, LIGHT, GREY, MARK = "#1a1a1a", "#ffffff", "#555555", "#d1480b"
PNG_SCALE = 2
NAMES = {"block": "block output", "mlp": "MLP", "attention": "attention"}


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    width: float
    height: float
    fill: str | None
    line: str | None = None


@dataclass(frozen=True)
class _Text:
    """x is the start, middle or end of the text as `anchor` says; y is its middle."""

    x: float
    y: float
    text: str
    size: int = TEXT_SIZE
    colour: str = DARK
    anchor: str = "start"


@dataclass(frozen=True)
class _Drawing:
    width: float
    height: float
    shapes: list[_Box | _Text]
    title: str
    told: str


def svg(maps: Sequence[TraceMap], site: Site | None = None, warning: str | None = None) -> str:
    """Return the maps one below the other as SVG text, the site marked where a row has its role.

    Raises RequestError without maps.
    """
    drawing = _draw(maps, site, warning)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label={quoteattr(drawing.title)}'
        f' width="{drawing.width:g}" height="{drawing.height:g}"'
        f' viewBox="0 0 {drawing.width:g} {drawing.height:g}"'
        ' font-family="Noto Sans, Noto Sans Thai, Noto Sans Lao, Noto Sans JP, DejaVu Sans,'
        ' sans-serif">'
    )
    lines = [
        head,
        f"<title>{escape(drawing.title)}</title>",
        f"<desc>{escape(drawing.told)}</desc>",
    ]
    lines += [_as_svg(shape) for shape in drawing.shapes]
    return "\n".join([*lines, "</svg>", ""])


def png(
    maps: Sequence[TraceMap],
    site: Site | None = None,
    warning: str | None = None,
    *,
    font: Path | None = None,
) -> bytes:
    """Return the same picture as PNG, twice as fine as the SVG's own size.

    font: a font file for the rows' names; Pillow's own has no others than ASCII's letters. Raises
    RequestError for a file that is no font.
    """
    from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

    drawing = _draw(maps, site, warning)
    size = (round(drawing.width * PNG_SCALE), round(drawing.height * PNG_SCALE))
    image = Image.new("RGB", size, LIGHT)
    canvas = ImageDraw.Draw(image)
    for shape in drawing.shapes:
        if isinstance(shape, _Box):
            corners = (shape.x, shape.y, shape.x + shape.width, shape.y + shape.height)
            where = tuple(round(value * PNG_SCALE) for value in corners)
            width = 0 if shape.line is None else 3 * PNG_SCALE
            canvas.rectangle(where, fill=shape.fill, outline=shape.line, width=width)
            continue
        points = shape.size * PNG_SCALE
        chosen: Any = ImageFont.load_default(points)
        if font is not None and not shape.text.isascii():
            try:
                chosen = ImageFont.truetype(str(font), points)
            except OSError as error:
                raise RequestError(
                    "The font file cannot be read. Give a TTF or OTF file."
                ) from error
        at = (shape.x * PNG_SCALE, shape.y * PNG_SCALE)
        anchor = {"start": "lm", "middle": "mm", "end": "rm"}[shape.anchor]
        canvas.text(at, shape.text, fill=shape.colour, font=chosen, anchor=anchor)
    about = PngImagePlugin.PngInfo()
    about.add_itxt("Title", drawing.title)
    about.add_itxt("Description", drawing.told)
    stream = io.BytesIO()
    image.save(stream, "PNG", pnginfo=about, optimize=True)
    return stream.getvalue()


def _draw(maps: Sequence[TraceMap], site: Site | None, warning: str | None) -> _Drawing:
    if not maps:
        raise RequestError("A picture needs at least one map.")
    left = MARGIN + max(_width(_name(row)) for one in maps for row in one.rows) + LABEL_GAP
    columns = max(len(one.values[0]) for one in maps)
    told = " ".join(one for one in (_told(maps, site), warning) if one)
    width = left + max(columns * CELL_WIDTH, SCALE_WIDTH + 90) + MARGIN
    lines = _wrapped(told, width - 2 * MARGIN)
    shapes: list[_Box | _Text] = []
    y = float(MARGIN)
    for one in maps:
        shapes += _panel(one, left, y, site)
        y += TITLE_HEIGHT + len(one.rows) * CELL_HEIGHT + AXIS_HEIGHT + PANEL_GAP
    shapes += _scale(maps[0], left, y)
    y += 2 * CELL_HEIGHT
    for line in lines:
        shapes.append(_Text(MARGIN, y, line, colour=GREY))
        y += TEXT_SIZE * 1.5
    return _Drawing(width, y + MARGIN / 2, shapes, "Causal trace: where the fact is held", told)


def _panel(one: TraceMap, left: float, top: float, site: Site | None) -> list[_Box | _Text]:
    """Return the shapes of one map: title, names, cells with numbers, layer numbers, the mark."""
    shapes: list[_Box | _Text] = [_Text(left, top + 10, _title(one), TITLE_SIZE)]
    y = top + TITLE_HEIGHT
    for row, values in zip(one.rows, one.values, strict=True):
        middle = y + CELL_HEIGHT / 2
        shapes.append(_Text(left - LABEL_GAP, middle, _name(row), anchor="end"))
        for layer, value in enumerate(values):
            x = left + layer * CELL_WIDTH
            share = _share(one, value)
            shapes.append(_Box(x, y, CELL_WIDTH, CELL_HEIGHT, _colour(share)))
            colour = LIGHT if share > 0.55 else DARK
            text = _number(one, value)
            shapes.append(_Text(x + CELL_WIDTH / 2, middle, text, colour=colour, anchor="middle"))
        y += CELL_HEIGHT
    columns = len(one.values[0])
    # Numbers below every column, or below some where there are many.
    for layer in range(0, columns, 1 if columns <= 16 else 4):
        x = left + (layer + 0.5) * CELL_WIDTH
        shapes.append(_Text(x, y + 10, str(layer), colour=GREY, anchor="middle"))
    shapes.append(_Text(left - LABEL_GAP, y + 10, "layer", colour=GREY, anchor="end"))
    if site is not None and site.role in one.rows and site.layer < columns:
        x = left + site.layer * CELL_WIDTH
        y = top + TITLE_HEIGHT + one.rows.index(site.role) * CELL_HEIGHT
        shapes.append(_Box(x, y, CELL_WIDTH, CELL_HEIGHT, None, MARK))
    return shapes


def _scale(one: TraceMap, left: float, y: float) -> list[_Box | _Text]:
    steps = 40
    step = SCALE_WIDTH / steps
    shapes: list[_Box | _Text] = [
        # A little wider than its place, so that no seam shows between two.
        _Box(left + n * step, y, step + 0.3, 10, _colour(n / (steps - 1)))
        for n in range(steps)
    ]
    low, high = (_number(one, value) for value in (one.low, one.high))
    shapes.append(_Text(left, y + 20, f"{low} blurred", colour=GREY))
    shapes.append(
        _Text(left + SCALE_WIDTH, y + 20, f"{high} undisturbed", colour=GREY, anchor="end")
    )
    return shapes


def _as_svg(shape: _Box | _Text) -> str:
    if isinstance(shape, _Box):
        line = "" if shape.line is None else f' stroke="{shape.line}" stroke-width="3"'
        return (
            f'<rect x="{shape.x:g}" y="{shape.y:g}" width="{shape.width:g}"'
            f' height="{shape.height:g}" fill="{shape.fill or "none"}"{line}/>'
        )
    return (
        f'<text x="{shape.x:g}" y="{shape.y:g}" dominant-baseline="central"'
        f' text-anchor="{shape.anchor}" font-size="{shape.size}" fill="{shape.colour}">'
        f"{escape(shape.text)}</text>"
    )


def _title(one: TraceMap) -> str:
    together = "" if one.window == 1 else f", {one.window} layers together"
    severed = "" if one.severed is None else f", {NAMES[one.severed]} severed"
    restored = "block output" if one.kind == "block" else f"{NAMES[one.kind]} output"
    return f"{restored[0].upper()}{restored[1:]} restored{together}{severed}"


def _told(maps: Sequence[TraceMap], site: Site | None) -> str:
    """Return in words what the picture shows, without what is not in the maps themselves."""
    first = maps[0]
    told = (
        f"Probability of the answer in percent: {_number(first, first.high)} undisturbed,"
        f" {_number(first, first.low)} with the subject blurred, and in each cell with that state"
        " put back."
    )
    if site is not None:
        told += f" Site: {_name(site.role)}, layer {site.layer}."
    return told


def _name(row: str) -> str:
    return row.replace("_", " ")


def _number(one: TraceMap, value: float) -> str:
    return f"{100 * value:.0f}" if one.high >= 0.1 else f"{100 * value:.1f}"


def _share(one: TraceMap, value: float) -> float:
    """Return where a value lies between blurred (0) and undisturbed (1)."""
    effect = one.high - one.low
    return min(max((value - one.low) / effect, 0.0), 1.0) if effect > 0 else 0.0


def _colour(share: float) -> str:
    place = share * (len(COLOURS) - 1)
    index = min(int(place), len(COLOURS) - 2)
    mixed = (
        round(a + (b - a) * (place - index))
        for a, b in zip(COLOURS[index], COLOURS[index + 1], strict=True)
    )
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _width(text: str) -> float:
    return TEXT_SIZE * sum(LATIN_WIDTH if char.isascii() else OTHER_WIDTH for char in text)


def _wrapped(text: str, width: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines[-1:] = [longer] if _width(longer) <= width else [lines[-1], word]
    return [line for line in lines if line]
