"""Cost per edit as edits grow from 50 to 5,000: batches of 50 one after another, with memory.

    python -m benchmarks.growth [--methods memit,alphaedit,ultraedit] [--most 5000]

Leaves the figures in summary.json and a plot in editing-growth.svg beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.facts import MOVED, facts
from benchmarks.plot import Line, line_plot
from benchmarks.second_moments import write_statistics
from benchmarks.summary import MODEL, add, folder

ROOT = Path(__file__).parents[1]
BATCH = 50
METHODS = ("memit", "alphaedit", "ultraedit")
LOCATED = {"role": "last", "layer": 4}


def measured(method: str, most: int, threads: int) -> list[float]:
    """Return the seconds of each batch of one method, in a process of its own."""
    runs = folder() / "runs"
    runs.mkdir(exist_ok=True)
    source, out = runs / f"facts-{most}.json", runs / f"growth-{method}.json"
    # People of whom the model knows nothing: there are not five thousand that it knows.
    strangers = [{**fact, "ask": []} for fact in facts(MOVED + most)[MOVED:]]
    source.write_text(json.dumps(strangers, ensure_ascii=False), encoding="utf-8")
    settings = LOCATED if method != "ultraedit" else {}
    options = {
        "--model": MODEL,
        "--facts": source,
        "--method": method,
        "--mode": "sequence",
        "--batch-size": BATCH,
        "--settings": json.dumps(settings),
        "--statistics": write_statistics(folder() / "statistics.safetensors"),
        "--threads": threads,
        "--out": out,
    }
    arguments = [str(part) for pair in options.items() for part in pair]
    subprocess.run([sys.executable, "-m", "benchmarks.ours", *arguments], cwd=ROOT, check=True)
    seconds: list[float] = json.loads(out.read_text(encoding="utf-8"))["seconds"]
    # Before the batches, the neighbours of several facts are read once.
    return seconds[-(most // BATCH) :]


def summary(seconds: list[float]) -> dict[str, Any]:
    """Return the cost per edit of the first and of the last ten batches, and their ratio."""
    per_edit = [one / BATCH for one in seconds]
    ends = min(10, max(1, len(per_edit) // 2))
    first, last = sum(per_edit[:ends]) / ends, sum(per_edit[-ends:]) / ends
    return {
        "edits": BATCH * len(seconds),
        "first_seconds_per_edit": first,
        "last_seconds_per_edit": last,
        "last_over_first": last / first,
        "seconds_per_edit": per_edit,
    }


def main() -> None:
    """Measure each method and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--most", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    lines = []
    for method in options.methods.split(","):
        found = summary(measured(method, options.most, options.threads))
        add(f"editing.growth.{method}", found)
        edits = [BATCH * (number + 1) for number in range(len(found["seconds_per_edit"]))]
        lines.append(Line(method, edits, found["seconds_per_edit"]))
        print(method, {name: value for name, value in found.items() if name != "seconds_per_edit"})
    picture = line_plot(
        lines, title="Cost per edit", across="edits made before and with the batch",
        up="seconds per edit",
    )  # fmt: skip
    (folder() / "editing-growth.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
