"""Cost per edit as edits grow from 50 to 5,000: batches of 50 one after another, with memory.

    python -m benchmarks.growth [--methods memit,alphaedit,ultraedit] [--most 5000] [--fixed]

Leaves the figures in summary.json and a plot in editing-growth.svg beside it. Passes are told
beside the seconds: where facts need more of them, the cost rises though no pass costs more. With
--fixed every fact gets as many passes, whether it needs them or not; that plot is
editing-growth-fixed.svg.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.facts import MOVED, facts
from benchmarks.ours import Runner, settings_with
from benchmarks.plot import Line, line_plot
from benchmarks.second_moments import write_statistics
from benchmarks.summary import MODEL, add, folder
from language_models import load

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from editing import EditRequest
    from editing.requests import EditResult

BATCH = 50
METHODS = ("memit", "alphaedit", "ultraedit")
LOCATED = {"role": "last", "layer": 4}
STEPS = {"steps": 25, "stop_loss": 0.0, "rounds": 1}
FIXED: dict[str, dict[str, Any]] = {
    "memit": STEPS,
    "alphaedit": STEPS,
    "ultraedit": {"rounds": 3, "stop_loss": 0.0},
}


class Counted(Runner):
    """A runner that also counts the passes of each batch."""

    def __init__(self, method: str, settings: dict[str, Any]) -> None:
        super().__init__(load(MODEL), method, settings)
        self.passes: list[float] = []

    def edit(self, requests: Sequence[EditRequest], memory: Any = None) -> EditResult:
        """Make the edits, timed and counted."""
        result = super().edit(requests, memory)
        self.passes.append(passes(result.details))
        return result


def passes(details: Mapping[str, Any]) -> float:
    """Return UltraEdit's rounds a batch, or the mean steps of the last values of the others."""
    if "losses" in details:
        return sum(map(len, details["losses"])) / len(details["losses"])
    steps: list[int] = [row["steps"] for row in details["requests"]]
    return sum(steps) / len(steps)


def measured(method: str, most: int, *, fixed: bool) -> Counted:
    """Edit `most` facts by one method, batch after batch."""
    settings = {
        "unreached": "mark",
        **(LOCATED if method != "ultraedit" else {}),
        **(FIXED[method] if fixed else {}),
    }
    statistics = write_statistics(folder() / "statistics.safetensors")
    runner = Counted(method, settings_with(statistics, method, settings))
    # People of whom the model knows nothing: there are not five thousand that it knows.
    strangers = [{**fact, "ask": []} for fact in facts(MOVED + most)[MOVED:]]
    runner.run(strangers, "sequence", tokens=1, size=BATCH)
    return runner


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Return the cost per edit of the first and of the last ten batches, and their ratio."""
    per_edit = [one / BATCH for one in seconds]
    first, last = ends(per_edit)
    return {
        "edits": BATCH * len(seconds),
        "first_seconds_per_edit": first,
        "last_seconds_per_edit": last,
        "last_over_first": last / first,
        "seconds_per_edit": per_edit,
    }


def ends(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean over the first ten batches and over the last ten, or half of them."""
    count = min(10, max(1, len(values) // 2))
    return sum(values[:count]) / count, sum(values[-count:]) / count


def main() -> None:
    """Measure each method and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--most", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--fixed", action="store_true", help="as many passes for every fact")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    name = "growth-fixed" if options.fixed else "growth"
    lines = []
    for method in options.methods.split(","):
        runner = measured(method, options.most, fixed=options.fixed)
        # Before the batches, the neighbours of several facts are read once.
        found = summary(runner.seconds[-len(runner.passes) :])
        found["first_passes"], found["last_passes"] = ends(runner.passes)
        found["passes"] = runner.passes
        add(f"editing.{name}.{method}", found)
        edits = [BATCH * (number + 1) for number in range(len(found["seconds_per_edit"]))]
        lines.append(Line(method, edits, found["seconds_per_edit"]))
        print(method, {key: one for key, one in found.items() if not isinstance(one, list)})
    picture = line_plot(
        lines, title="Cost per edit", across="edits made before and with the batch",
        up="seconds per edit",
    )  # fmt: skip
    (folder() / f"editing-{name}.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
