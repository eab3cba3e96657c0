"""Before and after side by side: rows for pages, reports and plots, with their bounds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from evaluation.prompts import FORM_LABELS
from evaluation.results import cell

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from evaluation.results import AttackResult, Cell, GroupResult, Measurement

LANGUAGE_LABELS = {"en": "English", "th": "Thai", "ja": "Japanese", "lo": "Lao"}
# Key of a row of a whole group, the group, and what it is called.
TOTALS = (
    ("all", "leak", "All direct questions"),
    ("control", "control", "Chance: people who do not exist"),
    ("indirect", "indirect", "All other forms and languages"),
    ("indirect_control", "indirect_control", "Chance: people who do not exist"),
)
NEIGHBOUR_LABELS = {
    "namesake": "people who share a name",
    "same_value": "people who share a value",
    "same_relation": "other people",
    "same_person": "the same person's other facts",
    "general": "facts about nobody",
}


@dataclass(frozen=True)
class Row:
    """A part of the probes: rates before and after, each between its one-sided 95 % bounds."""

    key: str
    label: str
    probes: int
    before: float
    before_low: float
    before_high: float
    after: float
    after_low: float
    after_high: float


@dataclass(frozen=True)
class AttackRow:
    """An attack: rates of leaks before (None: not run) and after the change, and by chance.

    others: answers about other people under the attack, which tells whether the model still works.
    None: not asked.
    """

    key: str
    probes: int
    before: float | None
    after: float
    after_high: float
    chance: float | None
    others: float | None


def leak_rows(before: Measurement, after: Measurement) -> list[Row]:
    """Return the leak rate by form, then by language, of all direct questions, and chance."""
    if "leak" not in before.groups or "leak" not in after.groups:
        return []
    old, new = _forms(before), _forms(after)
    rows = [
        _row(f"form:{form}", _form(form), _sum(old[form].values()), _sum(cells.values()))
        for form, cells in new.items()
    ]
    languages = dict.fromkeys(name for one in new.values() for name in one)
    rows += [
        _row(
            f"language:{name}",
            LANGUAGE_LABELS.get(name, name),
            _sum(cells[name] for cells in old.values() if name in cells),
            _sum(cells[name] for cells in new.values() if name in cells),
        )
        for name in languages
    ]
    for key, group, label in TOTALS:
        if group in before.groups and group in after.groups:
            rows.append(_row(key, label, _whole(before.groups[group]), _whole(after.groups[group])))
    return rows


def _forms(found: Measurement) -> dict[str, Mapping[str, Cell]]:
    """Return form -> language -> part, of direct questions and of other forms."""
    groups = [found.groups[name] for name in ("leak", "indirect") if name in found.groups]
    return {form: cells for group in groups for form, cells in group.forms.items()}


def neighbour_rows(before: Measurement, after: Measurement) -> list[Row]:
    """Return the answers that should stay, nearest neighbours first."""
    rows = []
    for group in ("same_person", "others", "general"):
        old, new = before.groups.get(group), after.groups.get(group)
        if old is None or new is None:
            continue
        parts = new.neighbours or {group: _whole(new)}
        rows += [
            _row(key, NEIGHBOUR_LABELS.get(key, key), old.neighbours.get(key, _whole(old)), cell)
            for key, cell in parts.items()
        ]
    return rows


def attack_rows(before: Measurement, after: Measurement) -> list[AttackRow]:
    """Return each attack that asked for the values."""
    earlier = {one.title: one for one in before.attacks}
    return [
        _attack_row(earlier.get(one.title), one) for one in after.attacks if "leak" in one.groups
    ]


def tables(before: Measurement, after: Measurement) -> dict[str, list[dict[str, Any]]]:
    """Return all tables as JSON values."""
    return {
        "leak": [asdict(row) for row in leak_rows(before, after)],
        "neighbours": [asdict(row) for row in neighbour_rows(before, after)],
        "attacks": [asdict(row) for row in attack_rows(before, after)],
    }


def _whole(group: GroupResult) -> Cell:
    return cell(group.n, group.hits)


def _sum(cells: Iterable[Cell]) -> Cell:
    known = list(cells)
    return cell(sum(one.n for one in known), sum(one.hits for one in known))


def _form(form: str) -> str:
    return FORM_LABELS[form][0] if form in FORM_LABELS else "The model's own wordings"


def _row(key: str, label: str, old: Cell, new: Cell) -> Row:
    return Row(
        key, label, new.n,
        old.hits / old.n, old.lower_95, old.upper_95,
        new.hits / new.n, new.lower_95, new.upper_95,
    )  # fmt: skip


def _attack_row(old: AttackResult | None, new: AttackResult) -> AttackRow:
    leak = new.groups["leak"]
    chance, others = (new.groups.get(name) for name in ("control", "others"))
    return AttackRow(
        new.title,
        leak.n,
        old.groups["leak"].rate if old and "leak" in old.groups else None,
        leak.rate,
        leak.upper_by_prompt,
        chance.rate if chance else None,
        others.rate if others else None,
    )
