"""Delete all that the broker holds while jobs run and wait: lost 0, done twice 0.

    python -m proofs.brokers [--set-up NAME] [--times N]

Each time four cases have a document to be written. Once a worker has begun, the broker's folder,
keys or queue are deleted under it at a random moment, and once more some seconds later. Every job
has to be done, because the sweeper rings again for what the database holds. A worker that ends is
started anew, as `manage.py serve` and any service manager does: one that lost its queue for good
notices that it is deaf (compliance/watchdog.py). How often that was is counted.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from amqp.exceptions import AMQPError  # type: ignore[import-untyped]

from . import watch
from .installations import SET_UPS, Installation, keep, kill, make, wait_until

CASES = 4
TIMES = 5
# Four documents take some 10 s on this machine; what is rung again comes within a sweep.
ALL_DONE_SECONDS = 90
# So that two runs choose the same moments.
SEED = 2026


def states(installation: Installation) -> list[str]:
    """The states of the jobs that write documents."""
    sql = "SELECT state FROM compliance_job WHERE kind = 'document'"
    return [state for (state,) in watch.rows(installation, sql)]


def delete(installation: Installation) -> int:
    """Delete what the broker holds for it; returns how many bells waited."""
    bells = 0
    with contextlib.suppress(AMQPError):  # the queue is gone: the worker makes it again
        bells = watch.waiting(installation)
    if installation.broker.startswith("filesystem"):
        shutil.rmtree(installation.folder / "broker", ignore_errors=True)
    else:
        watch.delete_queue(installation)
    return bells


def try_once(base: Installation, draw: random.Random) -> dict[str, Any]:
    """Let a worker begin, delete twice under it, and see what becomes of the jobs."""
    copied = base.snapshot()
    worker = watch.worker(copied)
    moments, bells, left = (draw.uniform(0, 2.5), draw.uniform(1, 3)), [], []
    begun = time.monotonic()
    try:
        wait_until(lambda: "running" in states(copied), 30, "the first job")
        for moment in moments:
            time.sleep(moment)
            left.append(len([state for state in states(copied) if state != "done"]))
            bells.append(delete(copied))
            begun = time.monotonic()
        restarts = 0
        until = time.monotonic() + ALL_DONE_SECONDS
        while set(states(copied)) != {"done"} and time.monotonic() < until:
            time.sleep(0.1)
            if worker.poll() is not None:
                worker, restarts = watch.worker(copied), restarts + 1
        seconds = time.monotonic() - begun
        kill(worker)
        verdict = copied.ask("proofs.judge")
        lost = sum(state != "done" for state in states(copied))
        return {
            "moments": [round(moment, 2) for moment in moments],
            "bells_deleted": bells,
            "jobs_left_then": left,
            "lost": lost,
            "worker_restarts": restarts,
            "duplicates": verdict["duplicates"],
            "intact": verdict["intact"],
            "seconds_to_the_end": round(seconds, 1),
            "attempts": [job["attempt"] for job in verdict["jobs"] if job["kind"] == "document"],
        }
    finally:
        kill(worker)
        watch.clear(copied)


def try_set_up(set_up: str, times: int) -> list[dict[str, Any]]:
    """As many times as asked, each in a copy of the same installation."""
    draw = random.Random(SEED)  # noqa: S311 -- moments of a test
    with tempfile.TemporaryDirectory(prefix="lethe-brokers-") as folder:
        base = make(set_up, Path(folder) / "base")
        try:
            base.ask("proofs.cases", str(CASES))
            return [try_once(base, draw) for _ in range(times)]
        finally:
            watch.clear(base)


def main() -> int:
    """Print a line for each set-up; 0 when nothing was lost and nothing done twice."""
    parser = argparse.ArgumentParser(prog="python -m proofs.brokers")
    parser.add_argument("--set-up", choices=SET_UPS, action="append")
    parser.add_argument("--times", type=int, default=TIMES)
    options = parser.parse_args()
    result: dict[str, Any] = {"cases": CASES, "set_ups": {}}
    wrong = 0
    for set_up in options.set_up or SET_UPS:
        runs = try_set_up(set_up, options.times)
        result["set_ups"][set_up] = runs
        lost, twice = (sum(run[name] for run in runs) for name in ("lost", "duplicates"))
        wrong += lost + twice + sum(not run["intact"] for run in runs)
        sys.stdout.write(
            f"{set_up:<20} times {len(runs)}  jobs {CASES * len(runs)}  "
            f"bells deleted {sum(sum(run['bells_deleted']) for run in runs)}  lost {lost}  "
            f"duplicates {twice}  longest to the end "
            f"{max(run['seconds_to_the_end'] for run in runs)} s\n"
        )
        sys.stdout.flush()
        keep("brokers", result)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
