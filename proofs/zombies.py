"""A worker that stands still past its lease and then goes on: stale writes accepted 0.

    python -m proofs.zombies [--set-up NAME] [--job KIND]

A worker and its child are stopped (SIGSTOP) at a point of a job; another worker does the job; then
the first one goes on and has to be refused. The points lie outside of transactions, and inside the
one that records. Inside, PostgreSQL ends the session after idle_in_transaction_session_timeout
(10 s, config/settings.py). SQLite has one writer and no such limit: all writers wait until the
worker goes on or is killed, which is safe, but nothing is done meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import watch
from .crash import is_done, points_of
from .installations import SET_UPS, Installation, keep, kill, make, wait_until

if TYPE_CHECKING:
    import subprocess

JOBS = ("apply", "document")
# Points inside the transaction that records the change; the same on every set-up.
INSIDE = (
    "INSERT INTO compliance_datakey",
    "fsync",
    "rename",
    "INSERT INTO compliance_datasetversion",
    "INSERT INTO compliance_auditevent",
    "COMMIT",
)
DONE_SECONDS = 60
# Longer than the lease, so that another worker would take the job if it could.
STANDSTILL_SECONDS = 8


def outside(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Points between the claim and the last commit at which no transaction is open."""
    commits = [place for place, point in enumerate(points) if point["act"] == "COMMIT"]
    between = points[commits[0] + 1 : commits[-1]]
    return [
        point for point in between if not point["open"] and not point["point"].startswith("child:")
    ]


def inside(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points named in INSIDE of the transaction that records the child's result."""
    acts = [point["act"] for point in points]
    begin = acts.index("result of the child received")
    return [points[acts.index(act, begin)] for act in INSIDE]


def stop_at(copied: Installation, job: str, point: dict[str, Any]) -> subprocess.Popen[bytes]:
    """A worker that stands still at the point."""
    worker = watch.crashing_worker(copied, job, at=point["point"], deed="stop")
    try:
        wait_until(
            lambda: any("deed" in line for line in watch.trace(copied)), DONE_SECONDS, "the stop"
        )
    except TimeoutError:
        kill(worker)
        raise
    return worker


def go_on(copied: Installation, worker: subprocess.Popen[bytes]) -> None:
    """Let worker and child go on."""
    child = next(line["child"] for line in reversed(watch.trace(copied)) if "child" in line)
    for group in (child, worker.pid):
        with contextlib.suppress(ProcessLookupError):
            if group:
                os.killpg(group, signal.SIGCONT)


def has_ended(copied: Installation) -> bool:
    return any("ended" in line for line in watch.trace(copied))


def overtaken(base: Installation, job: str, point: dict[str, Any]) -> dict[str, Any]:
    """Stop at the point, let another worker do the job, go on, judge."""
    copied = base.snapshot()
    processes = []
    try:
        processes.append(stop_at(copied, job, point))
        stopped = time.monotonic()
        processes.append(watch.worker(copied))
        wait_until(lambda: is_done(copied, job), DONE_SECONDS, "the other worker")
        seconds = time.monotonic() - stopped
        go_on(copied, processes[0])
        wait_until(lambda: has_ended(copied), DONE_SECONDS, "the end of the stale run")
        for process in processes:
            kill(process)
        refused = [line["refused"] for line in watch.trace(copied) if "refused" in line]
        verdict = copied.ask("proofs.judge")
        held = verdict["intact"] and bool(refused)
        result = point | {
            "held": held,
            "refused_by": refused,
            "duplicates": verdict["duplicates"],
            "done_by_other_after": round(seconds, 1),
        }
        return result if held else result | {"judge": verdict}
    except (TimeoutError, RuntimeError) as error:
        return point | {"held": False, "why": str(error)[:300]}
    finally:
        for process in processes:
            kill(process)
        watch.clear(copied)


def standing(base: Installation, job: str, point: dict[str, Any], *, end: str) -> dict[str, Any]:
    """SQLite: stop inside the transaction, see that writers wait, then `end`: go on or killed."""
    copied = base.snapshot()
    processes = []
    try:
        processes.append(stop_at(copied, job, point))
        processes.append(watch.worker(copied))
        time.sleep(STANDSTILL_SECONDS)
        waited = not is_done(copied, job) and not _can_write(copied)
        freed = time.monotonic()
        if end == "killed":
            kill(processes[0])
        else:
            go_on(copied, processes[0])
        wait_until(lambda: is_done(copied, job), DONE_SECONDS, "the job")
        seconds = time.monotonic() - freed
        for process in processes:
            kill(process)
        verdict = copied.ask("proofs.judge")
        return point | {
            "end": end,
            "writers_waited": waited,
            "held": verdict["intact"] and waited,
            "duplicates": verdict["duplicates"],
            "done_after": round(seconds, 1),
        }
    except (TimeoutError, RuntimeError) as error:
        return point | {"end": end, "held": False, "why": str(error)[:300]}
    finally:
        for process in processes:
            kill(process)
        watch.clear(copied)


def _can_write(copied: Installation) -> bool:
    path = copied.folder / "lethe.sqlite3"
    with contextlib.closing(sqlite3.connect(path, timeout=0.5)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        connection.rollback()
        return True


def try_job(set_up: str, kind: str) -> list[dict[str, Any]]:
    """Every moment of one kind of job on one set-up."""
    with tempfile.TemporaryDirectory(prefix="lethe-zombies-") as folder:
        base = make(set_up, Path(folder) / "base")
        try:
            job = base.ask("proofs.scene", kind)["job"]
            points = points_of(base, job)
            tried = [overtaken(base, job, point) for point in outside(points)]
            if kind == "apply" and base.database:
                tried += [overtaken(base, job, point) for point in inside(points)]
            elif kind == "apply":
                tried += [
                    standing(base, job, point, end=end)
                    for point in inside(points)[-1:]
                    for end in ("goes on", "killed")
                ]
            return tried
        finally:
            watch.clear(base)


def main() -> int:
    """Print a line for each set-up and job; 0 when no stale write was accepted."""
    parser = argparse.ArgumentParser(prog="python -m proofs.zombies")
    parser.add_argument("--set-up", choices=SET_UPS, action="append")
    parser.add_argument("--job", choices=JOBS, action="append")
    options = parser.parse_args()
    results: list[dict[str, Any]] = []
    for set_up in options.set_up or ("sqlite-filesystem", "postgresql-redis"):
        for kind in options.job or JOBS:
            tried = try_job(set_up, kind)
            results.append({"set_up": set_up, "job": kind, "stopped": tried})
            held = sum(moment["held"] for moment in tried)
            sys.stdout.write(
                f"{set_up:<20} {kind:<9} stopped {len(tried):>2} times "
                f"({sum(moment['open'] for moment in tried)} inside a transaction)  held {held}  "
                f"recorded twice {sum(moment.get('duplicates', 0) for moment in tried)}\n"
            )
            sys.stdout.flush()
            keep("zombies", {"jobs": results})
    return int(any(not moment["held"] for result in results for moment in result["stopped"]))


if __name__ == "__main__":
    sys.exit(main())
