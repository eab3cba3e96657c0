"""Geometry of the two charts of a report; the templates draw it as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reports.figures import Group
    from reports.record import Trace

BAR_WIDTH = 180.0
HEAT_WIDTH = 500.0
HEAT_LABEL = 104.0
HEAT_ROW = 22.0
MOST_LAYER_LABELS = 16

PALE = (240, 244, 247)
DEEP = (11, 79, 84)
WHITE_TEXT_FROM = 0.55


@dataclass(frozen=True, slots=True)
class Bar:
    """Lengths in CSS pixels of one group: before, after, and the 95 % bound on the after rate."""

    before: float | None
    after: float
    bound: float


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the heat map; text is empty where there is no room for figures."""

    x: float
    y: float
    fill: str
    ink: str
    text: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Label:
    """A word beside the heat map at a position in CSS pixels."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class HeatMap:
    """The causal trace as cells with labels; all lengths in CSS pixels."""

    width: float
    height: float
    cell_width: float
    cell_height: float
    cells: tuple[Cell, ...]
    roles: tuple[Label, ...]
    layers: tuple[Label, ...]


def bar(group: Group) -> Bar:
    """Return the lengths for one group on an axis of 0 to 100 %."""
    before = group["before_rate"]
    return Bar(
        before=None if before is None else round(before * BAR_WIDTH, 2),
        after=round(group["after_rate"] * BAR_WIDTH, 2),
        bound=round(group["bound_95"] * BAR_WIDTH, 2),
    )


def heat_map(trace: Trace) -> HeatMap:
    """Return the cells of a causal trace, coloured from its low to its high probability."""
    layers, roles = trace["layers"], trace["roles"]
    width = round(HEAT_WIDTH / max(len(layers), 1), 3)
    every = -(-len(layers) // MOST_LAYER_LABELS)
    cells = [
        _cell(trace, row, column, width, with_text=every == 1)
        for row in range(len(roles))
        for column in range(len(layers))
    ]
    bottom = len(roles) * HEAT_ROW
    return HeatMap(
        width=HEAT_LABEL + HEAT_WIDTH + 2,
        height=bottom + 18,
        cell_width=width,
        cell_height=HEAT_ROW,
        cells=tuple(sorted(cells, key=lambda cell: cell.chosen)),
        roles=tuple(
            Label(HEAT_LABEL - 8, row * HEAT_ROW + 14.5, role.replace("_", " ")[:24])
            for row, role in enumerate(roles)
        ),
        layers=tuple(
            Label(round(HEAT_LABEL + (column + 0.5) * width, 2), bottom + 12, str(layer))
            for column, layer in enumerate(layers)
            if column % every == 0
        ),
    )


def _cell(trace: Trace, row: int, column: int, width: float, *, with_text: bool) -> Cell:
    value = trace["grid"][row][column]
    span = trace["high"] - trace["low"]
    share = min(max((value - trace["low"]) / span, 0.0), 1.0) if span > 0 else 0.0
    red, green, blue = (
        round(low + share * (high - low)) for low, high in zip(PALE, DEEP, strict=True)
    )
    site = trace["site"]
    return Cell(
        x=round(HEAT_LABEL + column * width, 3),
        y=row * HEAT_ROW,
        fill=f"#{red:02x}{green:02x}{blue:02x}",
        ink="#ffffff" if share >= WHITE_TEXT_FROM else "#12233d",
        text=f"{value:.2f}" if with_text else "",
        chosen=trace["roles"][row] == site["role"] and trace["layers"][column] == site["layer"],
    )
