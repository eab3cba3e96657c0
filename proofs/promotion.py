"""Promote and roll back a model with kills, while a reader hashes the version in force all along.

    python -m proofs.promotion [--set-up sqlite-filesystem] [--switches 500] [--reads 10000]

One process switches through the product's own code and is killed at random moments; the next one
first does what a worker does when it starts. Exit status 0: no read was torn, dangling or without
a version, and at the end the link leads to what the database says.
"""

from __future__ import annotations

import argparse
import json
import random
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

SWITCHER = "proofs.promotion_switcher"
# A life of the switching process after it began: from nothing to some switches.
LONGEST_LIFE = 0.25
LONGEST = 1200


def measure(set_up: str, switches: int, reads: int) -> dict[str, Any]:
    """Switch, kill and read until there were enough of each."""
    folder = Path(tempfile.mkdtemp(prefix="lethe-promotion-"))
    place = installations.make(set_up, folder / "var", BROKER_URL="memory://")
    reader = None
    begun = time.monotonic()
    try:
        place.ask("proofs.scene", "find")
        link = place.ask(SWITCHER, "make")["link"]
        stop = folder / "stop"
        reader = subprocess.Popen(
            [sys.executable, "-m", "proofs.promotion_reader", link, str(stop)],
            cwd=installations.ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        kills = _switch_and_kill(place, switches)
        seen = _reads(reader, stop, reads, begun)
        told = _told(place)
        end = place.ask(SWITCHER, "state")
    finally:
        if reader is not None:
            reader.kill()
            reader.wait()
        place.remove()
        shutil.rmtree(folder, ignore_errors=True)
    rollbacks = [line["rolled back"] for line in told if "rolled back" in line]
    promotions = [line["promoted"] for line in told if "promoted" in line]
    return {
        "set_up": set_up,
        "kills": kills,
        "behind": sum(line.get("behind", False) for line in told),
        "reader": seen,
        "rollback_median": statistics.median(rollbacks),
        "rollback_max": max(rollbacks),
        "promotion_median": statistics.median(promotions),
        "end": end,
        "seconds": round(time.monotonic() - begun),
    }


def _told(place: Installation) -> list[dict[str, Any]]:
    """What the switching processes wrote; a kill may have cut the last line of each short."""
    path = place.folder / "switches"
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _switch_and_kill(place: Installation, switches: int) -> int:
    """Kill one switching process after the other until so many switches were seen; the kills."""
    draw = random.Random(2026)  # noqa: S311 -- moments, no secret
    kills, begun = 0, time.monotonic()
    while sum("started" not in line for line in _told(place)) < switches:
        if time.monotonic() - begun > LONGEST:
            raise TimeoutError(f"fewer than {switches} switches in {LONGEST} s")
        lives = sum("started" in line for line in _told(place))
        process = place.start("-m", SWITCHER, "switch")
        try:
            installations.wait_until(
                lambda lives=lives: sum("started" in line for line in _told(place)) > lives,
                30,
                "the switching process has started",
            )
            time.sleep(draw.uniform(0, LONGEST_LIFE))
        finally:
            installations.kill(process)
        kills += 1
    return kills


def _reads(reader: subprocess.Popen[str], stop: Path, reads: int, begun: float) -> dict[str, Any]:
    """Stop the reader and take what it saw. Raises RuntimeError when it read too little."""
    stop.touch()
    told, _ = reader.communicate(timeout=30)
    seen: dict[str, Any] = json.loads(told)
    if seen["reads"] < reads:
        rate = seen["reads"] / (time.monotonic() - begun)
        raise RuntimeError(
            f"only {seen['reads']} reads ({rate:.0f} each second): switch for longer"
        )
    return seen


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m proofs.promotion")
    parser.add_argument("--set-up", default="sqlite-filesystem")
    parser.add_argument("--switches", type=int, default=500)
    parser.add_argument("--reads", type=int, default=10_000)
    options = parser.parse_args(arguments)
    result = measure(options.set_up, options.switches, options.reads)
    seen, end = result["reader"], result["end"]
    for label, figure in (
        ("promotions and rollbacks on record", end["switches"]),
        ("kills", result["kills"]),
        ("starts that found the link behind", result["behind"]),
        ("reads", seen["reads"]),
        ("switches that the reader saw", seen["changes_seen"]),
        ("torn or unverified reads", seen["torn"]),
        ("dangling links", seen["dangling"]),
        ("missing links", seen["missing"]),
        ("link is what the database says", end["same"]),
        ("problem of the log", end["log"]),
        ("temporary links left by kills", end["left"]),
        ("seconds of a rollback, median", result["rollback_median"]),
        ("seconds of a rollback, longest", result["rollback_max"]),
        ("seconds of a promotion, median", result["promotion_median"]),
        ("seconds in all", result["seconds"]),
    ):
        sys.stdout.write(f"{label:<40}{figure!s:>10}\n")
    installations.keep("promotion", result)
    bad = seen["torn"] + seen["dangling"] + seen["missing"]
    held = not bad and end["same"] and end["log"] is None and end["switches"] >= options.switches
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
