"""Compare methods on a user's own facts and model: a process per method, one table, one JSON.

Each method starts on the original weights, and its time and memory are its own: what another
method cached or left allocated cannot count for or against it. A method that refuses or fails
has a row that says why; the others go on. Nothing here holds a text of the facts but the plan.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editing import METHODS
from editing.facts import as_rows
from language_models.errors import RequestError
from language_models.methods import find

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from editing.facts import Fact

MODES = {
    "single": "each fact alone on the original weights",
    "batch": "all facts at once",
    "sequence": "one after another, all facts scored at the end",
}
ROOT = Path(__file__).parents[1]
WIDTH = 100
# Heading over two lines, and the width of the column.
_COLUMNS = (
    ("", "method", 10),
    ("reli-", "ability", 8),
    ("general-", "ization", 9),
    ("", "locality", 9),
    ("same", "person", 7),
    ("", "general", 8),
    ("inter-", "ference", 8),
    ("seconds", "per edit", 9),
    ("peak", "MB", 8),
    ("", "‖Δ‖/‖W‖", 9),
    ("", "reached", 12),
)
_HEADINGS = [(above, below) for above, below, _ in _COLUMNS]
_WIDTHS = [width for *_, width in _COLUMNS]
_MEASURES = ("reliability", "generalization", "locality", "same_person", "general", "interference")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What to compare: settings are JSON values per method name."""

    model: Path
    facts: Sequence[Fact]
    methods: Sequence[str]
    mode: str = "single"
    batch_size: int = 1
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    max_new_tokens: int = 32
    device: str = "auto"
    dtype: str = "auto"

    def __post_init__(self) -> None:
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise RequestError("Give at least one method, and each only once.")
        for name in (*self.methods, *self.settings):
            find(METHODS, name)
        if self.mode not in MODES:
            raise RequestError(f"Unknown mode {self.mode!r}. Use one of: {', '.join(MODES)}.")
        if min(self.batch_size, self.max_new_tokens) < 1:
            raise RequestError("The batch size and the number of tokens start at 1.")
        idle = set(self.settings) - set(self.methods)
        if idle:
            raise RequestError(f"Settings for {', '.join(sorted(idle))}, which is not compared.")

    def run(self) -> dict[str, Any]:
        """Return the mode, the number of facts and one row of numbers per method."""
        rows = [self._row(name) for name in self.methods]
        digests = {row["weights"] for row in rows if "weights" in row}
        if len(digests) > 1:
            raise RequestError("The model folder changed while methods were compared. Run again.")
        return {
            "mode": self.mode,
            "batch_size": self.batch_size if self.mode == "sequence" else None,
            "facts": len(self.facts),
            "max_new_tokens": self.max_new_tokens,
            "methods": rows,
        }

    def _row(self, name: str) -> dict[str, Any]:
        """Measure one method in a process of its own, which reads the facts from its input."""
        plan = {
            "model": str(Path(self.model).resolve()),
            "facts": as_rows(self.facts),
            "method": name,
            "settings": dict(self.settings.get(name, {})),
            "mode": self.mode,
            "batch_size": self.batch_size,
            "max_new_tokens": self.max_new_tokens,
            "device": self.device,
            "dtype": self.dtype,
        }
        known = (str(ROOT), os.environ.get("PYTHONPATH"))
        done = subprocess.run(
            [sys.executable, "-m", "editing.measured"],
            # Found from any folder; relative paths in settings stay what they are.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, known))},
            input=json.dumps(plan),
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            check=False,
        )
        lines = done.stdout.splitlines()
        if done.returncode < 0 or not lines:
            ended = f"its process was ended by signal {-done.returncode}"
            return {"method": name, "failed": f"{ended}, most often for want of memory"}
        return {"method": name, **json.loads(lines[-1])}


def table(found: Mapping[str, Any]) -> str:
    """Return the comparison as text of at most 100 columns."""
    rows = found["methods"]
    size = f", batches of {found['batch_size']}" if found["batch_size"] else ""
    lines = [f"{found['facts']} facts, {found['mode']}{size}: {MODES[found['mode']]}", ""]
    lines += [_line([heading[number] for heading in _HEADINGS]) for number in (0, 1)]
    lines.append("-" * sum(_WIDTHS))
    measured = [row for row in rows if "after" in row]
    if measured:
        before = measured[0]["before"]
        lines.append(_line(["questions", *(str(before[name]["total"]) for name in _MEASURES)]))
        lines.append(_line(["unedited", *(_percent(before[name]) for name in _MEASURES)]))
    lines += [_method_line(row) for row in rows]
    reasons = [(row, row.get("refused") or row.get("failed") or row["reason"]) for row in rows]
    notes = [f"{row['method']}: {reason}" for row, reason in reasons if reason]
    wrapped = [textwrap.fill(note, WIDTH, subsequent_indent="  ") for note in notes]
    return "\n".join([*lines, *([""] if wrapped else []), *wrapped]) + "\n"


def _method_line(row: Mapping[str, Any]) -> str:
    if "after" not in row:
        return f"{row['method']:{_WIDTHS[0]}}  {'refused' if 'refused' in row else 'failed'}"
    return _line(
        [
            row["method"],
            *(_percent(row["after"][name]) for name in _MEASURES),
            _significant(row["seconds_per_edit"]),
            f"{row['peak_mb']:.0f}",
            _significant(row["relative"]),
            f"{row['reached']}/{row['edits']}",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    first, *rest = cells
    shown = [f" {cell:>{width - 1}}" for cell, width in zip(rest, _WIDTHS[1:], strict=False)]
    return f"{first:{_WIDTHS[0]}}{''.join(shown)}".rstrip()


def _percent(share: Mapping[str, Any]) -> str:
    return "-" if share["rate"] is None else f"{100 * share['rate']:.1f}%"


def _significant(value: float) -> str:
    return f"{value:.2f}" if value >= 1 else f"{value:.2g}"
