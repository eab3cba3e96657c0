"""An installation on SQLite in which a job is due, and what a fault of the disk made of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from proofs import installations

if TYPE_CHECKING:
    from pathlib import Path

    from proofs.installations import Installation

# A worker waits longer for its database; a process that has no other to wait for need not.
PATIENCE = "5"
# Once for the fault, and as often again as the product itself would try.
AGAIN = 4


class Scene(NamedTuple):
    """An installation in which a job is due."""

    kind: str
    base: Installation
    job: str


def set_up(kind: str, folder: Path) -> Scene:
    """An installation in which a job of the kind is due."""
    base = installations.make(
        "sqlite-filesystem", folder / kind, BROKER_URL="memory://", LETHE_JOB_PATIENCE=PATIENCE
    )
    # As SQLite keeps it: without hyphens.
    return Scene(kind, base, base.ask("proofs.scene", kind)["job"].replace("-", ""))


def rows(place: Installation, query: str) -> list[tuple[Any, ...]]:
    """Read or change rows of the installation past the product."""
    with closing(sqlite3.connect(place.folder / "lethe.sqlite3")) as database, database:
        return database.execute(query).fetchall()


def finish(place: Installation, job: str) -> None:
    """Take the job up again until it is done, or will not be done any more."""
    for _ in range(AGAIN):
        (state,) = rows(place, f"SELECT state FROM compliance_job WHERE id = '{job}'")[0]  # noqa: S608
        if state not in ("ready", "running"):
            return
        # What waits is due now, and what a dead process held is free.
        rows(place, "UPDATE compliance_job SET not_before = '2026-01-01', lease_until = NULL")
        rows(place, "UPDATE compliance_job SET lease_until = '2026-01-01' WHERE state = 'running'")
        place.run("-m", "proofs.disk_job", job, check=False)


def judged(place: Installation, kind: str) -> dict[str, Any]:
    """What became of the job and of all else."""
    verdict = place.ask("proofs.judge")
    (job,) = (job for job in verdict["jobs"] if job["kind"] == kind)
    left = [path for path in place.folder.rglob(".*.*") if path.is_file()]
    return {
        "intact": bool(verdict["intact"]) and job["state"] == "done",
        "burnt": job["attempt"] - 1,
        "orphans": sorted(path.parent.name for path in left),
        "verdict": verdict if not verdict["intact"] or job["state"] != "done" else None,
    }
