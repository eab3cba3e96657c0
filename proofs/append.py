"""Time appends to the log of record, and the verification of a large one.

    python -m proofs.append [--set-ups sqlite-filesystem,postgresql-redis] [--leaves 100000]

Exit status 0: the median append took under 2 ms, and the product verified all leaves in under 2 s.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proofs import installations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proofs.installations import Installation

APPENDS = 2000
RUNS = 3
APPEND_MS, VERIFY_SECONDS = 2.0, 2.0
INSIDE = "proofs.append_inside"


def measure(set_up: str, leaves: int) -> dict[str, Any]:
    """The figures of one installation."""
    folder = Path(tempfile.mkdtemp(prefix="lethe-append-"))
    place = installations.make(set_up, folder / "var", BROKER_URL="memory://")
    try:
        # An office and a case, for events to belong to.
        place.ask("proofs.scene", "find")
        result: dict[str, Any] = place.ask(INSIDE, "time", str(APPENDS))
        filled = {"size": 0, "seconds": 0.0}
        while filled["size"] < leaves:
            more = place.ask(INSIDE, "fill", str(leaves))
            filled = {"size": more["size"], "seconds": filled["seconds"] + more["seconds"]}
        exported = folder / "leaves.jsonl"
        result["filled_seconds"] = round(filled["seconds"], 1)
        result["verify"] = place.ask(INSIDE, "verify", str(RUNS), str(exported))
        result["load"] = os.getloadavg()
        result["standalone"] = standalone(place, exported)
    finally:
        place.remove()
        shutil.rmtree(folder, ignore_errors=True)
    return result


def standalone(place: Installation, leaves: Path) -> dict[str, Any]:
    """Seconds of the auditor's program, its start included, on the same leaves."""
    command = [
        *(sys.executable, str(installations.ROOT / "reports/transparency_log.py"), "log"),
        *(str(leaves), "--key", str(place.folder / "keys/log/log.vkey")),
        *("--checkpoint", str(leaves.with_suffix(".checkpoint"))),
    ]
    seconds = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        seconds.append(round(time.perf_counter() - begun, 3))
    return {"runs": seconds, "best": min(seconds), "median": statistics.median(seconds)}


def table(set_up: str, result: dict[str, Any]) -> str:
    """The figures of one installation as text."""
    names = ("append", "append_without_commit", "plain_insert", "plain_insert_without_commit")
    lines = [f"{set_up}: {result['appends']} appends, each in a transaction of its own"]
    lines += [
        f"  {name.replace('_', ' '):<30} median {result[name]['median_ms']:>7} ms"
        f"   p95 {result[name]['p95_ms']:>7} ms"
        for name in names
    ]
    lines.append(f"  append to plain insert {result['ratio']:.2f} : 1")
    lines += [
        f"  {label:<30} best {found['best']:>7} s    median {found['median']:>7} s"
        for label, found in (
            (f"verify {result['verify']['leaves']:,} leaves", result["verify"]),
            ("the auditor's program on them", result["standalone"]),
        )
    ]
    lines.append(
        f"  processor seconds of verify, best {result['verify']['processor']}; "
        f"load of the machine {result['load'][0]:.1f} on {os.cpu_count()} processors"
    )
    if result["verify"]["median"] > VERIFY_SECONDS:
        lines += ["  where the time of verify goes (profiled):", *result["verify"]["profile"]]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m proofs.append")
    parser.add_argument("--set-ups", default="sqlite-filesystem,postgresql-redis")
    parser.add_argument("--leaves", type=int, default=100_000)
    options = parser.parse_args(arguments)
    results = {}
    for set_up in options.set_ups.split(","):
        results[set_up] = measure(set_up, options.leaves)
        sys.stdout.write(table(set_up, results[set_up]))
        sys.stdout.flush()
    installations.keep("append", results)
    held = all(
        result["append"]["median_ms"] < APPEND_MS and result["verify"]["median"] < VERIFY_SECONDS
        for result in results.values()
    )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
