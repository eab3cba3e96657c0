"""Stop PostgreSQL at once while a worker is at its jobs, and see that nothing is lost or doubled.

    python -m proofs.postgres [--points 20]

A cluster of our own; the worker starts with a measure to apply and goes on by itself to verify it
and to write the documents. The cluster is stopped once in each run, at moments spread over all of
that and, in every third run, in the middle of one of the worker's transactions; 0.5 to 3 s later
it is started again. The worker is not touched and must outlast it.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psycopg

from proofs import installations
from proofs.installations import Installation
from proofs.postgres_cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Sequence

WORKER = (
    *("-m", "celery", "--app=config", "worker", "--beat", "--concurrency=1"),
    *("--loglevel=ERROR", "--without-gossip", "--without-mingle"),
)
LONGEST = 120
JOBS = "SELECT kind, state, attempt FROM compliance_job ORDER BY created_at"
IN_TRANSACTION = (
    "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND xact_start IS NOT NULL "
    "AND pid <> pg_backend_pid()"
)


class Outage(NamedTuple):
    """One stop: so many seconds after the first claim, so long; `inside`: in a transaction."""

    after: float
    seconds: float
    inside: bool


def prepare(cluster: Cluster, folder: Path) -> Installation:
    """An installation on the cluster in which a measure is to be applied."""
    base = Installation(
        folder / "base",
        "filesystem://localhost/",
        settings={"DATABASE_URL": cluster.url(cluster.new())},
    )
    base.run("-m", "setup.state", str(base.folder))
    base.ask("proofs.scene", "apply")
    return base


def copy(cluster: Cluster, base: Installation) -> tuple[Installation, str]:
    """The installation once more, and the name of its database."""
    place = base.snapshot()
    database = cluster.new(base.settings["DATABASE_URL"].rsplit("/", 1)[1])
    place.settings["DATABASE_URL"] = cluster.url(database)
    return place, database


def run(cluster: Cluster, base: Installation, outage: Outage | None) -> dict[str, Any]:
    """Let the worker do all jobs, with one outage or none; judge."""
    place, database = copy(cluster, base)
    worker = place.start(*WORKER)
    try:
        _wait(lambda: _jobs(cluster, database)[-1][1] == "running", "the first claim")
        begun = time.monotonic()
        struck = _strike(cluster, database, outage, begun) if outage else {}
        _wait(lambda: _ended(_jobs(cluster, database)), "all jobs done")
        wall = time.monotonic() - begun
        outlasted = worker.poll() is None
    except TimeoutError as late:
        wall, outlasted, struck = LONGEST, worker.poll() is None, {"late": str(late)}
    finally:
        installations.kill(worker)
    verdict = place.ask("proofs.judge")
    place.remove()
    cluster.ask("postgres", f"DROP DATABASE {database} WITH (FORCE)")
    return {
        **(outage._asdict() if outage else {}),
        **struck,
        "intact": verdict["intact"]
        and {job["kind"]: job["state"] for job in verdict["jobs"]}
        == dict.fromkeys(("find", "apply", "verify", "document"), "done"),
        "duplicates": verdict["duplicates"],
        "missing": verdict["missing"],
        "attempts": {job["kind"]: job["attempt"] for job in verdict["jobs"]},
        "errors": [job["error"] for job in verdict["jobs"] if job["error"]],
        "burnt": sum(job["attempt"] - 1 for job in verdict["jobs"]),
        "outlasted": outlasted,
        "wall": round(wall, 2),
    }


def _strike(cluster: Cluster, database: str, outage: Outage, begun: float) -> dict[str, Any]:
    """Stop and start the cluster; what was going on when it was stopped."""
    time.sleep(max(0.0, outage.after - (time.monotonic() - begun)))
    caught = False
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as session:
        until = time.monotonic() + 10
        while outage.inside and not caught and time.monotonic() < until:
            caught = bool(session.execute(IN_TRANSACTION, [database]).fetchall())
        jobs = _jobs(cluster, database) if not caught else []
    cluster.stop()
    time.sleep(outage.seconds)
    cluster.start()
    during = [kind for kind, state, _ in jobs or _jobs(cluster, database) if state != "done"]
    return {"caught": caught, "during": during}


def _jobs(cluster: Cluster, database: str) -> list[tuple[Any, ...]]:
    return cluster.ask(database, JOBS)


def _ended(jobs: Sequence[tuple[Any, ...]]) -> bool:
    """Whether the documents are written, or something failed for good."""
    kinds = {kind: state for kind, state, _ in jobs}
    return kinds.get("document") == "done" or "failed" in kinds.values()


def _wait(true: Any, what: str) -> None:
    installations.wait_until(true, LONGEST, what)


def measure(points: int) -> dict[str, Any]:
    """A run without an outage for its length, then one for each point."""
    folder = Path(tempfile.mkdtemp(prefix="lethe-proof-"))
    draw = random.Random(2026)  # noqa: S311 -- moments, no secret
    try:
        with Cluster() as cluster:
            base = prepare(cluster, folder)
            clean = run(cluster, base, None)
            rows = []
            for number in range(points):
                after = clean["wall"] * number / points
                outage = Outage(round(after, 2), round(draw.uniform(0.5, 3), 2), number % 3 == 2)
                rows.append(run(cluster, base, outage))
                sys.stdout.write(f"  {rows[-1]}\n")
                sys.stdout.flush()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    walls = [row["wall"] for row in rows]
    return {
        "points": points,
        "clean": clean,
        "intact": sum(row["intact"] for row in rows),
        "duplicates": sum(row["duplicates"] for row in rows),
        "missing": sum(row["missing"] for row in rows),
        "burnt": sum(row["burnt"] for row in rows),
        "outlasted": sum(row["outlasted"] for row in rows),
        "inside": sum(row.get("caught", False) for row in rows),
        "wall_median": round(statistics.median(walls), 2),
        "wall_max": max(walls),
        "rows": rows,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m proofs.postgres")
    parser.add_argument("--points", type=int, default=20)
    options = parser.parse_args(arguments)
    result = measure(options.points)
    for label, key in (
        ("intact", "intact"),
        ("worker outlasted the outage", "outlasted"),
        ("caught inside a transaction", "inside"),
        ("duplicate effects", "duplicates"),
        ("missing effects", "missing"),
        ("attempts burnt", "burnt"),
        ("wall, median s", "wall_median"),
        ("wall, longest s", "wall_max"),
    ):
        sys.stdout.write(f"{label:<32}{result[key]:>8}\n")
    sys.stdout.write(f"{'wall without an outage, s':<32}{result['clean']['wall']:>8}\n")
    installations.keep("postgres", result)
    wanted = (options.points, options.points, 0, 0, 0)
    had = tuple(result[key] for key in ("intact", "outlasted", "duplicates", "missing", "burnt"))
    return 0 if had == wanted else 1


if __name__ == "__main__":
    sys.exit(main())
