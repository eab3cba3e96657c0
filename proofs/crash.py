"""Kill -9 of the worker and of its child at every crash point of every kind of job.

    python -m proofs.crash [--set-up NAME] [--job KIND] [--every N] [--lanes N]

A first run counts the points (crashing_worker.py). For each one a copy of the installation is
brought to that point and killed there; a normal worker then has to finish the job. Every effect
must be there once, the log whole, and a job whose worker died taken up again within its lease and
5 s. Most of a point is waiting for that lease, so `lanes` points of one job are tried at a time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import watch
from .installations import ROOT, SET_UPS, Installation, keep, kill, make, wait_until

JOBS = ("find", "apply", "verify", "document")
DONE_SECONDS = 60
CHILD = "child:"
_snapshots = threading.Lock()


def copy(base: Installation) -> Installation:
    """A snapshot; a template is copied by one at a time."""
    with _snapshots:
        return base.snapshot()


def is_done(installation: Installation, job: str) -> bool:
    return watch.job_row(installation, job).state == "done"


def points_of(base: Installation, job: str) -> list[dict[str, Any]]:
    """Every point that a run without a fault passes."""
    counted = copy(base)
    process = watch.crashing_worker(counted, job)
    try:
        wait_until(
            lambda: any("ended" in line for line in watch.trace(counted)), DONE_SECONDS, "counting"
        )
        return [line for line in watch.trace(counted) if "point" in line]
    finally:
        kill(process)
        watch.clear(counted)


def try_point(base: Installation, job: str, point: dict[str, Any]) -> dict[str, Any]:
    """Kill at the point, let a normal worker go on, judge."""
    label = point["point"]
    copied = copy(base)
    processes = []
    try:
        of_child = label.startswith(CHILD)
        deed = "kill-child" if of_child else "kill"
        victim = watch.crashing_worker(copied, job, at=label, deed=deed)
        processes.append(victim)
        if not of_child:
            # A point that is not reached lets the victim do the job; that is no proof of it.
            wait_until(
                lambda: victim.poll() is not None or is_done(copied, job), DONE_SECONDS, "the kill"
            )
            processes.append(watch.worker(copied))
        wait_until(lambda: is_done(copied, job), DONE_SECONDS, "the job")
        # What the worker began next must not change what is judged.
        kill(processes.pop())
        return _judged(copied, job, point)
    except (TimeoutError, RuntimeError, OSError) as error:
        return point | {"intact": False, "why": str(error)[:300]}
    finally:
        for process in processes:
            kill(process)
        watch.clear(copied)


def _judged(copied: Installation, job: str, point: dict[str, Any]) -> dict[str, Any]:
    lines = watch.trace(copied)
    row = watch.job_row(copied, job)
    verdict = copied.ask("proofs.judge")
    children = {line["child"] for line in lines if line.get("child")}
    deeds = [line["time"] for line in lines if "deed" in line]
    orphans = sum(not watch.group_is_gone(child) for child in children)
    result = point | {
        "reached": bool(deeds),
        "attempt": row.attempt,
        "intact": verdict["intact"] and not orphans and bool(deeds),
        "duplicates": verdict["duplicates"],
        "recovery": round(row.started - deeds[0], 2) if deeds and row.started > deeds[0] else None,
    }
    return result if result["intact"] else result | {"judge": verdict, "orphans": orphans}


def try_job(set_up: str, kind: str, *, every: int, lanes: int) -> dict[str, Any]:
    """Every point of one kind of job on one set-up."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lethe-crash-") as folder:
        base = make(set_up, Path(folder) / "base")
        try:
            job = base.ask("proofs.scene", kind)["job"]
            points = points_of(base, job)
            numbered = [point for point in points if point["point"].isdigit()]
            others = [point for point in points if not point["point"].isdigit()]
            with ThreadPoolExecutor(lanes) as pool:
                tried = list(
                    pool.map(lambda point: try_point(base, job, point), numbered[::every] + others)
                )
        finally:
            watch.clear(base)
    return _summary(set_up, kind, len(points), tried) | {
        "every": every,
        "seconds": round(time.monotonic() - begun),
    }


def _summary(set_up: str, kind: str, points: int, tried: list[dict[str, Any]]) -> dict[str, Any]:
    of_worker = [p for p in tried if not p["point"].startswith(CHILD)]
    recoveries = sorted(p["recovery"] for p in of_worker if p.get("recovery") is not None)
    late = [p for p in of_worker if (p.get("recovery") or 0) > watch.PROMISE_SECONDS]
    return {
        "set_up": set_up,
        "job": kind,
        "points": points,
        "tried": len(tried),
        "of_child": len(tried) - len(of_worker),
        "intact": sum(p["intact"] for p in tried),
        "duplicates": sum(p.get("duplicates", 0) for p in tried),
        "late": len(late),
        "recovery_median": round(statistics.median(recoveries), 2) if recoveries else None,
        "recovery_longest": recoveries[-1] if recoveries else None,
        "acts": [f"{p['point']} {p['act']}" for p in tried],
        "wrong": [p for p in tried if not p["intact"]] + late,
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m proofs.crash")
    parser.add_argument("--set-up", choices=SET_UPS, action="append")
    parser.add_argument("--job", choices=JOBS, action="append")
    parser.add_argument("--every", type=int, default=1, help="only each N-th point of the worker")
    parser.add_argument("--lanes", type=int, default=2, help="points tried at a time")
    return parser.parse_args()


def _earlier() -> dict[str, dict[str, Any]]:
    """What earlier runs found: the matrix may be run in parts."""
    path = ROOT / "var/proofs/crash.json"
    found = json.loads(path.read_text())["jobs"] if path.exists() else []
    return {f"{result['set_up']} {result['job']}": result for result in found}


def main() -> int:
    """Print a line for each set-up and job; 0 when everything held."""
    options = _options()
    results = _earlier()
    for set_up in options.set_up or SET_UPS:
        for kind in options.job or JOBS:
            result = try_job(set_up, kind, every=options.every, lanes=options.lanes)
            results[f"{set_up} {kind}"] = result
            sys.stdout.write(
                f"{set_up:<20} {kind:<9} points {result['points']:>3}  tried {result['tried']:>3}  "
                f"intact {result['intact']:>3}  duplicates {result['duplicates']}  "
                f"late {result['late']}  recovery median {result['recovery_median']} s, "
                f"longest {result['recovery_longest']} s  ({result['seconds']} s)\n"
            )
            sys.stdout.flush()
            keep("crash", {"promise_seconds": watch.PROMISE_SECONDS, "jobs": [*results.values()]})
    return int(any(r["wrong"] or r["duplicates"] for r in results.values()))


if __name__ == "__main__":
    sys.exit(main())
