"""A measurement as a file: the figures, by which frozen plan, when, before or after the change."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from evaluation.private_files import write_new
from evaluation.results import Measurement
from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCHEMA = "lethe.measurement/2"
BEFORE, AFTER = "before", "after"


@dataclass(frozen=True)
class Result:
    """stage: before or after the change. applied_by: who made it, "" where nobody said so.

    thresholds: those that the plan was frozen with. measured_at, frozen_at: ISO 8601 with offset.
    """

    stage: str
    measured_at: str
    applied_by: str
    frozen_by: str
    frozen_at: str
    thresholds: Mapping[str, float]
    measurement: Measurement

    def save(self, path: Path) -> None:
        """Write the result once: figures, numbers of probes and the digest of the plan."""
        row = {**asdict(self), "measurement": self.measurement.as_dict()}
        stored = {"schema": SCHEMA, "digest": _digest(row), "result": row}
        write_new((path, json.dumps(stored, ensure_ascii=False, indent=1).encode()))


def open_result(path: Path) -> Result:
    """Read a result. Raises RequestError for a file that is none or was changed since."""
    try:
        stored: dict[str, Any] = json.loads(path.read_bytes())
        row, digest, schema = stored["result"], stored["digest"], stored["schema"]
        found = Result(**{**row, "measurement": Measurement.from_dict(row["measurement"])})
        datetime.fromisoformat(found.measured_at)
        same = _digest(row) == digest
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RequestError("That file is not a measurement. Give one that measure wrote.") from None
    if schema != SCHEMA or found.stage not in (BEFORE, AFTER):
        raise RequestError("That measurement is of another version. Measure again by this one.")
    if not same:
        raise RequestError("The measurement was changed after it was written. Measure again.")
    return found


def _digest(row: Mapping[str, Any]) -> str:
    text = json.dumps(row, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
