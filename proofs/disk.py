"""Let every write, sync and rename of a job fail once, and see that nothing is lost or doubled.

    python -m proofs.disk [--kinds apply,document] [--budget SECONDS]

strace runs one process that does one job of an installation on SQLite, and lets the n-th call of a
kind fail with ENOSPC or EIO, for each n that belongs to a file of the installation. The job is
then taken up again without the fault until it is done. Then the same on a small disk that is full.
Needs strace, and the right to trace and to mount.
"""

from __future__ import annotations

import argparse
import collections
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from proofs import disk_full, installations
from proofs.disk_scene import Scene, finish, judged, rows, set_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proofs.installations import Installation

CALLS = (
    *("pwrite64", "pwritev", "write", "writev", "fdatasync", "fsync", "ftruncate", "fallocate"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "openat", "mkdir", "mkdirat"),
)
ERRORS = ("ENOSPC", "EIO")
TRIES = 3
_CALL = re.compile(r"(\w+)\((.*)")


class Point(NamedTuple):
    """One call of a job that is made to fail: the n-th of its name in the process."""

    kind: str
    call: str
    n: int
    error: str


def traced(place: Installation, job: str, *options: str) -> list[str]:
    """Do the job under strace; returns the lines of the trace."""
    trace = place.folder.with_suffix(".trace")
    command = ["strace", "-y", "-o", str(trace), *options, sys.executable, "-m", "proofs.disk_job"]
    subprocess.run(
        [*command, job],
        cwd=installations.ROOT,
        env=place.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    lines = trace.read_text(errors="replace").splitlines()
    trace.unlink()
    return lines


def points(scene: Scene) -> list[Point]:
    """Every call of a clean run that writes, syncs or names a file of the installation."""
    # Once before, so that no compiled module is written in the run that counts.
    for place in (scene.base.snapshot(), scene.base.snapshot()):
        lines = traced(place, scene.job, "-e", "trace=" + ",".join(CALLS))
        place.remove()
    seen: collections.Counter[str] = collections.Counter()
    found = []
    for line in lines:
        match = _CALL.match(line)
        if match is None:
            continue
        call, rest = match.groups()
        seen[call] += 1
        creates = call != "openat" or "O_CREAT" in rest
        if str(place.folder) in rest and creates:
            found += [Point(scene.kind, call, seen[call], error) for error in ERRORS]
    return found


def fail_at(scene: Scene, point: Point) -> dict[str, Any]:
    """Do the job with one call that fails, take it up again, judge."""
    place = scene.base.snapshot()
    try:
        fault = f"inject={point.call}:error={point.error}:when={point.n}"
        lines = traced(place, scene.job, "-e", f"trace={point.call}", "-e", fault)
        hit = [line for line in lines if "(INJECTED)" in line]
        ((state, attempt, stage),) = rows(
            place,
            f"SELECT state, attempt, stage FROM compliance_job WHERE id = '{scene.job}'",  # noqa: S608
        )
        finish(place, scene.job)
        return {
            **point._asdict(),
            "hit": bool(hit) and str(place.folder) in hit[0],
            "where": _file(hit[0], place.folder) if hit else "",
            "at_once": state,
            "attempt_then": attempt,
            "stage": stage if state == "ready" else "",
            **judged(place, scene.kind),
        }
    finally:
        place.remove()


def _file(line: str, folder: Path) -> str:
    """What the failed call was about, without the names that differ each time."""
    found = re.search(re.escape(str(folder)) + r"/([^>\"]*)", line)
    return re.sub(r"[0-9a-f]{8,}", "#", found[1]) if found else ""


def measure(kinds: Sequence[str], budget: float) -> dict[str, Any]:
    """Every point of the kinds, as many as the budget of seconds has room for."""
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="lethe-disk-"))
    try:
        scenes = {kind: set_up(kind, folder) for kind in kinds}
        wanted = [point for scene in scenes.values() for point in points(scene)]
        # In the same mixed order each time; a budget cuts off the page writes of the last kind.
        random.Random(2026).shuffle(wanted)  # noqa: S311 -- an order, no secret
        wanted.sort(key=lambda point: (point.call == "pwrite64") * (1 + kinds.index(point.kind)))
        tried = []
        for point in wanted:
            if time.monotonic() - begun > budget:
                break
            tried.append(_struck(scenes[point.kind], point))
            _tell(tried[-1])
        full = [
            disk_full.fill_and_free(scene, spare)
            for scene in scenes.values()
            for spare in disk_full.SPARE_KIB
        ]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "points": len(wanted),
        "tried": tried,
        "full": full,
        "seconds": round(time.monotonic() - begun),
    }


def _struck(scene: Scene, point: Point) -> dict[str, Any]:
    """The outcome of the point; tried again when the fault met no file of the installation.

    The watch over a child's memory opens a file for each process of the machine now and then, so
    the number of calls of openat differs between runs.
    """
    for _ in range(TRIES):
        row = fail_at(scene, point)
        if row["hit"]:
            break
    return row


def _tell(row: dict[str, Any]) -> None:
    if not row["intact"] or row["burnt"] or not row["hit"] or row["orphans"]:
        sys.stdout.write(f"  {row}\n")
        sys.stdout.flush()


def table(result: dict[str, Any]) -> str:
    """The figures by kind of job, call and error.

    After the fault the job was done in place, put back (the attempt given back, or counted), or
    its process had died; `burnt` attempts and `left` temporary files are what remained at the end.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = collections.defaultdict(list)
    for row in filter(lambda row: row["hit"], result["tried"]):
        groups[row["kind"], row["call"], row["error"]].append(row)
        groups["all", "", ""].append(row)
    heads = ("faults", "intact", "in place", "put back", "counted", "died", "burnt", "left")
    lines = [" " * 28 + "".join(f"{head:>10}" for head in heads)]
    for name, group in sorted(groups.items()):
        then = collections.Counter((row["at_once"], row["attempt_then"]) for row in group)
        figures = (
            len(group),
            sum(row["intact"] for row in group),
            then["done", 1],
            then["ready", 0],
            then["ready", 1],
            then["running", 1],
            sum(row["burnt"] for row in group),
            sum(bool(row["orphans"]) for row in group),
        )
        lines.append(f"{' '.join(name):<28}" + "".join(f"{figure:>10}" for figure in figures))
    lines += [disk_full.line(row) for row in result["full"]]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m proofs.disk")
    parser.add_argument("--kinds", default="apply,document", help="of jobs, with commas between")
    parser.add_argument("--budget", type=float, default=3600, help="seconds for the single faults")
    options = parser.parse_args(arguments)
    result = measure(options.kinds.split(","), options.budget)
    struck = [row for row in result["tried"] if row["hit"]]
    sys.stdout.write(table(result))
    sys.stdout.write(
        f"intact {sum(row['intact'] for row in struck)} of {len(struck)} faults; "
        f"{len(result['tried']) - len(struck)} met no file of the installation; "
        f"{result['points']} points in all; {result['seconds']} s\n"
    )
    installations.keep("disk", result)
    held = all(row["intact"] and not row["burnt"] for row in result["tried"] + result["full"])
    complete = len(result["tried"]) == result["points"]
    return 0 if held and complete else 1


if __name__ == "__main__":
    sys.exit(main())
