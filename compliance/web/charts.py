"""Geometry of the charts on the pages; the templates draw it as SVG with attributes alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

WIDTH = 640
LABEL = 150
ROW = 30
FOOT = 40
BAR = 200.0
MOST_FIGURES = 12
MOST_LABELS = 16
PALE = (238, 243, 246)
DEEP = (11, 79, 84)
WHITE_INK_FROM = 0.5

ROLE_LABELS = {
    "subject_first": "name, first token",
    "subject_middle": "name, middle",
    "subject_last": "name, last token",
    "between": "between",
    "last": "end of the prompt",
}


@dataclass(frozen=True)
class Cell:
    """One token role at one layer; `text` is empty where figures would not fit."""

    x: float
    middle: float
    y: float
    fill: str
    ink: str
    text: str
    title: str
    chosen: bool


@dataclass(frozen=True)
class Label:
    """A word beside the map."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class HeatMap:
    """A causal trace, ready to draw; lengths in units of the view box."""

    width: int
    height: int
    cell_width: float
    cell_height: int
    cells: tuple[Cell, ...]
    roles: tuple[Label, ...]
    layers: tuple[Label, ...]
    axis: Label
    summary: str
    warning: str


@dataclass(frozen=True)
class Bars:
    """One group before and after, and the 95 % bound on the rate after; None: not measured."""

    before: float | None
    after: float
    bound: float


def bars(before: float | None, after: float, bound: float) -> Bars:
    """Lengths on an axis of 0 to 100 %."""
    return Bars(
        before=None if before is None else round(before * BAR, 1),
        after=round(after * BAR, 1),
        bound=round(bound * BAR, 1),
    )


def heat_map(trace: dict[str, Any]) -> HeatMap:
    """The cells of a trace in the shape of reports/record.py: a row of the grid for each role."""
    rows, layers = trace["roles"], len(trace["layers"])
    wide = round((WIDTH - LABEL - 2) / max(layers, 1), 3)
    site = trace["site"]
    cells = [
        _cell(trace, row, layer, wide, figures=layers <= MOST_FIGURES)
        for row in range(len(rows))
        for layer in range(layers)
    ]
    every = -(-layers // MOST_LABELS) if layers else 1
    bottom = len(rows) * ROW
    return HeatMap(
        width=WIDTH,
        height=bottom + FOOT,
        cell_width=wide,
        cell_height=ROW,
        cells=tuple(sorted(cells, key=lambda cell: cell.chosen)),
        roles=tuple(
            Label(LABEL - 10, row * ROW + ROW * 0.65, ROLE_LABELS.get(role, role))
            for row, role in enumerate(rows)
        ),
        layers=tuple(
            Label(round(LABEL + (layer + 0.5) * wide, 2), bottom + 16, str(layer))
            for layer in range(0, layers, every)
        ),
        axis=Label(round(LABEL + layers * wide / 2, 2), bottom + 33, "layer"),
        summary=(
            f"The facts are carried at “{ROLE_LABELS.get(site['role'], site['role'])}” in layer "
            f"{site['layer']}. Undisturbed, the model gives the value with probability "
            f"{trace['high']:.2f}; with the name blurred, {trace['low']:.2f}."
        ),
        warning=trace["warning"] or "",
    )


def _cell(trace: dict[str, Any], row: int, layer: int, wide: float, *, figures: bool) -> Cell:
    role, value = trace["roles"][row], trace["grid"][row][layer]
    span = trace["high"] - trace["low"]
    share = min(max((value - trace["low"]) / span, 0.0), 1.0) if span > 0 else 0.0
    red, green, blue = (
        round(pale + share * (deep - pale)) for pale, deep in zip(PALE, DEEP, strict=True)
    )
    return Cell(
        x=round(LABEL + layer * wide, 3),
        middle=round(LABEL + (layer + 0.5) * wide, 2),
        y=row * ROW,
        fill=f"#{red:02x}{green:02x}{blue:02x}",
        ink="#ffffff" if share >= WHITE_INK_FROM else "#12233d",
        text=f"{value:.2f}" if figures else "",
        title=f"{ROLE_LABELS.get(role, role)}, layer {layer}: {value:.2f}",
        chosen=(role, layer) == (trace["site"]["role"], trace["site"]["layer"]),
    )
