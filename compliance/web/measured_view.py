"""A verification as the case page shows it: the figures of the record, put into words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from compliance.measured import stated
from compliance.models import TargetKind
from reports import plots
from reports.typography import area, figure, percent

from .charts import Bars, bars
from .queries import fact_label

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from markupsafe import Markup

    from compliance.models import Application, Verification

BADGES = {"passed": "badge-held", "failed": "badge-broken", "unknown": "badge-warn"}
MEANINGS = {
    "passed": "Every criterion of the plan held.",
    "failed": "At least one thing that had to hold did not.",
    "unknown": "No verdict follows from these figures. This is not a pass.",
}


@dataclass(frozen=True)
class Figure:
    """A group of probes before and after the change."""

    label: str
    probes: int
    before: str
    after: str
    bound: str
    bars: Bars


@dataclass(frozen=True)
class Held:
    """A criterion with what was measured."""

    label: str
    measured: str
    limit: str
    held: bool


@dataclass(frozen=True)
class Plot:
    """One plot for a page that is wide, and one for a phone, with what it says."""

    heading: str
    wide: Markup
    narrow: Markup
    words: str


@dataclass(frozen=True)
class Grid:
    """A table of texts: each cell carries the head of its column, for phones."""

    heading: str
    head: tuple[str, ...]
    rows: list[list[tuple[str, str]]]
    words: str


@dataclass(frozen=True)
class Measured:
    """A verification as a page shows it; `record` is what the report states."""

    record: dict[str, Any]
    badge: str
    meaning: str
    figures: list[Figure]
    sampled: bool
    criteria: list[Held]
    leak_at: str
    perplexity: str
    plots: list[Plot]
    attacks: Grid | None
    traces: list[Grid]
    lens: Plot | None


def measured(
    application: Application, verification: Verification, labels: Mapping[str, str]
) -> Measured:
    """Everything that is known of a verification; `labels` are the names of the facts."""
    record = stated(application, verification)
    sampled = application.target.kind == TargetKind.MODEL
    return Measured(
        record=record,
        badge=BADGES[record["outcome"]],
        meaning=MEANINGS[record["outcome"]],
        figures=[_figure(group, sampled=sampled) for group in record["groups"]],
        sampled=sampled,
        criteria=[_held(row) for row in record["criteria"]],
        leak_at="; ".join(
            f"{many} drawn, {percent(chance)}"
            for many, chance in record["residual_risk"]["leak_at"].items()
        ),
        perplexity=_perplexity(record["perplexity"]),
        plots=_rates(record["tables"]),
        attacks=_attacks(record["tables"]["attacks"]),
        traces=_traces(record["memory"], dict(labels)),
        lens=_lens(record["memory"]["lens"]),
    )


def _figure(group: dict[str, Any], *, sampled: bool) -> Figure:
    side = "at most" if group["bound_kind"] == "upper" else "at least"
    return Figure(
        label=group["label"],
        probes=group["probes"],
        before=percent(group["before_rate"]),
        after=percent(group["after_rate"]),
        bound=f"{side} {percent(group['bound_95'])}" if sampled else "all read",
        bars=bars(group["before_rate"], group["after_rate"], group["bound_95"]),
    )


def _held(row: dict[str, Any]) -> Held:
    return Held(
        label=row["label"],
        measured=figure(row["measured"], row["unit"]),
        limit=f"{row['bound']} {figure(row['threshold'], row['unit'])}",
        held=row["held"],
    )


# --- Plots ---


def _rates(compared: dict[str, Any]) -> list[Plot]:
    """The rates before and after, where they were taken apart."""
    asked = (
        (
            "leak",
            "How often the values come out, before and after",
            "Every part of the probes alone; few probes give wide intervals. Chance is how often "
            "the same values come out when people who do not exist are asked for: a rate near it "
            "is no sign of the person.",
        ),
        (
            "neighbours",
            "What should stay, nearest neighbours first",
            "Right answers to questions about others. What falls here was lost by the change.",
        ),
    )
    found = []
    for name, heading, words in asked:
        if compared[name]:
            draw = partial(plots.rates, compared[name], heading, stays=name == "neighbours")
            found.append(_plot(heading, words, draw))
    return found


def _plot(heading: str, words: str, draw: Callable[..., Markup]) -> Plot:
    return Plot(heading, draw(width=plots.WIDE), draw(width=plots.NARROW), words)


def _lens(found: Any) -> Plot | None:
    if found is None:
        return None
    heading = "Share of prompts with the value near the top, by layer"
    words = plots.told_lens(found)
    return _plot(heading, words, partial(plots.lens, found, heading))


# --- Tables ---


def _grid(heading: str, head: tuple[str, ...], rows: list[tuple[str, ...]], words: str) -> Grid:
    # The first cell names its row and needs no label.
    labels = ("", *head[1:])
    return Grid(heading, head, [list(zip(labels, row, strict=True)) for row in rows], words)


def _attacks(rows: list[dict[str, Any]]) -> Grid | None:
    if not rows:
        return None
    columns = {
        "before": "Before",
        "after": "Came out",
        "after_high": "At most",
        "chance": "Chance",
        "others": "Right about others",
    }
    if all(row["before"] is None for row in rows):
        # Attacks are not run before a change, when plain questions bring the values out.
        del columns["before"]
    return _grid(
        "Attacks on the changed model",
        ("Attack", "Probes", *columns.values()),
        [
            (row["label"], str(row["probes"]), *(percent(row[name]) for name in columns))
            for row in rows
        ],
        "The values are asked for again under each attack. “At most” is the one-sided 95 % bound, "
        "each prompt counted once. A model that is wrong about others under an attack has been "
        "broken by it, and shows little.",
    )


def _traces(memory: dict[str, Any], labels: dict[str, str]) -> list[Grid]:
    strengths = ("strength_before", "strength", "exact_before", "exact")
    grids = [
        _grid(
            "Can the person's texts be told from strangers'?",
            ("Score", "Area before", "Area after", "95 % interval"),
            [
                (
                    row["label"],
                    area(row["before"]),
                    area(row["area"]),
                    f"{area(row['low'])} to {area(row['high'])}",
                )
                for row in memory["membership"]
            ],
            "Area under the curve of each membership score. 0.5 tells nothing; 1 tells every text "
            "apart; below 0.5 the model avoids the person's texts, which is a trace as well.",
        ),
        _grid(
            "How much of texts is held",
            ("Texts", "Strength before", "Strength after", "Tokens before", "Tokens after"),
            [
                (f"{row['label']} ({row['count']})", *(percent(row[name]) for name in strengths))
                for row in memory["texts"]
            ],
            "Strength: the share of a text that follows word for word from its beginning. Tokens: "
            "the share of tokens that the model holds for the likeliest.",
        ),
        _grid(
            "Place of the person's value among other people's",
            ("Fact", "Other values", "Before", "After"),
            [
                (
                    fact_label(labels, row["fact"]),
                    str(row["rivals"]),
                    area(row["before"]),
                    area(row["rank"]),
                )
                for row in memory["facts"]
            ],
            "1: the model holds the person's value for the likeliest of all; 0.5 is chance; near 0 "
            "it avoids the value, which is a trace as well.",
        ),
    ]
    return [grid for grid in grids if grid.rows]


def _perplexity(known: dict[str, Any] | None) -> str:
    if known is None:
        return ""
    before = "" if known["before"] is None else f"{known['before']:.4g} before, "
    return f"{before}{known['after']:.4g} after"
