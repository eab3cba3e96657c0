"""Editing against EasyEdit: speed, memory and quality, side by side on the same facts and model.

    LETHE_PEER=CHECKOUT LETHE_PEER_PYTHON=PEER/bin/python python -m benchmarks.editing

Each run is a process of its own, ours and the peer's in turn. Without the two variables only our
side is measured and there is no ratio. Answers of both are judged by the same rule.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import trained_editors
from benchmarks.facts import asks, facts, score
from benchmarks.second_moments import write_statistics
from benchmarks.summary import MODEL, add, folder
from language_models import load
from language_models.tracing import TraceCase, trace

ROOT = Path(__file__).parents[1]
TOKENS = 20
LONGEST = 3 * 3600


class Run(NamedTuple):
    """How facts are edited: mode, their number, and in sequence how many a batch."""

    mode: str
    facts: int
    size: int = 1

    def __str__(self) -> str:
        return f"{self.mode}-{self.facts}" + (f"-by-{self.size}" if self.size > 1 else "")


# ratio → (our method, the peer's, and the runs it is taken over)
SPEED: dict[str, tuple[str, str, tuple[Run, ...]]] = {
    "rome": ("rome", "rome", (Run("single", 50), Run("sequence", 500))),
    "memit": ("memit", "memit", (Run("single", 50), Run("batch", 50), Run("batch", 500))),
    # A batch of 500 has more keys than the model's null space directions.
    "alphaedit": ("alphaedit", "alphaedit", (Run("batch", 50), Run("sequence", 500, 50))),
    "ultraedit": ("ultraedit", "ftm", (Run("single", 50), Run("batch", 50), Run("batch", 500))),
    "finetune": ("finetune", "ftm", (Run("single", 50), Run("batch", 50), Run("batch", 500))),
}
# The peer's code takes the first request of a batch and leaves the others.
ONE_BY_ONE = ("rome", "r-rome")
# Beside FT-M these change the last layer, above which no block has to run again.
FAST: dict[str, dict[str, Any]] = {
    "finetune": {
        "layer": 5,
        "epochs": 12,
        "neighbour_rows": 64,
        "neighbour_weight": 3.0,
        "neighbours_a_fact": 12,
    },
    "ultraedit": {"layers": [5], "step": 6e-4, "rounds": 8, "neighbour_weight": 15.0},
}
OURS = (
    *("rome", "memit", "emmet", "alphaedit", "finetune", "lora", "ultraedit"),
    *(*trained_editors.METHODS, "grace"),
)
PEERS = ("rome", "r-rome", "memit", "emmet", "alphaedit", "ftm", "lora")
MODES = ("single", "batch", "sequence")
LOCATED = ("rome", "memit", "emmet", "alphaedit")


@dataclass
class Bench:
    """The files of one bench and what was measured so far."""

    peer: tuple[str, str] | None
    site: dict[str, Any]
    statistics: Path
    threads: int
    seed: int
    done: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)

    def ours(self, method: str, run: Run, *, fast: bool = False) -> dict[str, Any]:
        """Run one of our methods once; a second call returns the same figures."""
        settings = self.site if method in LOCATED else FAST.get(method, {}) if fast else {}
        if method in trained_editors.METHODS:
            settings = {"editor": str(trained_editors.trained_editor(method))}
        command = [sys.executable, "-m", "benchmarks.ours", "--settings", json.dumps(settings)]
        side = "ours-fast" if fast and method in FAST else "ours"
        return self._run(side, command, dict(os.environ), method, run)

    def theirs(self, method: str, run: Run) -> dict[str, Any] | None:
        """Run one of the peer's methods once; None without its checkout."""
        if self.peer is None:
            return None
        checkout, python = self.peer
        command = [python, str(ROOT / "benchmarks/peer_easyedit.py")]
        environment = {**os.environ, "PYTHONPATH": checkout}
        return self._run("peer", command, environment, method, run)

    def _run(
        self, side: str, command: list[str], environment: dict[str, str], method: str, run: Run
    ) -> dict[str, Any]:
        key = (side, method, str(run))
        if key in self.done:
            return self.done[key]
        out = folder() / "runs" / f"{'-'.join(key)}.json"
        options = {
            "--model": MODEL,
            "--facts": _facts_file(run.facts, self.seed),
            "--method": method,
            "--mode": run.mode,
            "--batch-size": run.size,
            "--statistics": self.statistics,
            "--tokens": TOKENS,
            "--threads": self.threads,
            "--out": out,
        }
        arguments = [str(part) for pair in options.items() for part in pair]
        finished = subprocess.run(
            [*command, *arguments],
            cwd=ROOT,
            env={**environment, "OMP_NUM_THREADS": str(self.threads)},
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
        if finished.returncode:
            last = (finished.stderr.strip().splitlines() or ["no message"])[-1]
            self.done[key] = {"failed": last[:300]}
        else:
            self.done[key] = _figures(
                json.loads(out.read_text(encoding="utf-8")), facts(run.facts, self.seed)
            )
        print(*key, json.dumps(self.done[key]), flush=True)
        return self.done[key]


def speed(bench: Bench, names: list[str]) -> None:
    """Measure the ratios of edits per second: ours to the peer's, the least over the runs."""
    for name in names:
        ours, theirs, runs = SPEED[name]
        parts = []
        for run in runs:
            pair: dict[str, Any] = {
                "mode": run.mode,
                "facts": run.facts,
                "batch_size": run.facts if run.mode == "batch" else run.size,
                "ours": bench.ours(ours, run, fast=True),
            }
            peer = bench.theirs(theirs, run)
            if peer is not None:
                pair["peer"] = {"method": theirs, **peer}
            if peer is not None and "failed" not in {**peer, **pair["ours"]}:
                pair["ratio"] = pair["ours"]["edits_per_second"] / peer["edits_per_second"]
                pair["cpu_ratio"] = peer["cpu_seconds"] / pair["ours"]["cpu_seconds"]
                pair["memory_ratio"] = pair["ours"]["peak_rss_mb"] / peer["peak_rss_mb"]
            parts.append(pair)
        ratios = [part["ratio"] for part in parts if "ratio" in part]
        add(f"editing.{name}", {"ratio": min(ratios) if ratios else None, "parts": parts})


def quality(bench: Bench, methods: list[str], modes: list[str]) -> None:
    """Measure every method in every mode for 50 facts, ours and the peer's."""
    for mode in modes:
        run = Run(mode, 50)
        rows = {f"ours {name}": bench.ours(name, run) for name in methods}
        for name in PEERS:
            found = None if mode == "batch" and name in ONE_BY_ONE else bench.theirs(name, run)
            if found is not None:
                rows[f"peer {name}"] = found
        add(f"editing.quality.{mode}", rows)


def _figures(found: dict[str, Any], asked: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of a run with its answers judged."""
    kept = ("edits", "total_seconds", "edits_per_second", "peak_rss_mb", "load_average", "reached")
    figures = {name: found[name] for name in kept if name in found}
    figures["cpu_seconds"] = sum(found["cpu_seconds"])
    if any(found["answers"]):
        figures["quality"] = score(asked, found["answers"])
    return figures


def _facts_file(count: int, seed: int) -> Path:
    path = folder() / "runs" / f"facts-{count}.json"
    made = [{**fact, "ask": [ask["prompt"] for ask in asks(fact)]} for fact in facts(count, seed)]
    path.write_text(json.dumps(made, ensure_ascii=False), encoding="utf-8")
    return path


def traced_site(seed: int) -> dict[str, Any]:
    """Return the site that tracing chooses on the demo model, and note how long it took."""
    lm = load(MODEL)
    cases = [
        TraceCase(fact["subject"], wording)
        for fact in facts(4, seed)
        for wording in (fact["prompt"], fact["paraphrases"][0])
    ]
    started = time.perf_counter()
    found = trace(lm, cases, seed=0)
    site = {"role": found.site.role, "layer": found.site.layer}
    add("editing.site", {**site, "seconds": time.perf_counter() - started, "cases": len(cases)})
    return site


def main() -> None:
    """Measure what is asked for; everything without options."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=("speed", "quality"))
    parser.add_argument("--ratios", default=",".join(SPEED), help="names of speed ratios")
    parser.add_argument("--methods", default=",".join(OURS), help="our methods in the tables")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--threads", type=int, default=2, help="of both sides")
    # The defaults were chosen on the facts of seed 0.
    parser.add_argument("--seed", type=int, default=1, help="which facts are changed to what")
    options = parser.parse_args()
    checkout, python = os.environ.get("LETHE_PEER"), os.environ.get("LETHE_PEER_PYTHON")
    peer = (checkout, python) if checkout and python else None
    if peer is None:
        print("LETHE_PEER and LETHE_PEER_PYTHON are not set: only our side is measured.")
    (folder() / "runs").mkdir(parents=True, exist_ok=True)
    statistics = write_statistics(folder() / "statistics.safetensors")
    bench = Bench(peer, traced_site(options.seed), statistics, options.threads, options.seed)
    if options.only != "quality":
        speed(bench, options.ratios.split(","))
    if options.only != "speed":
        quality(bench, options.methods.split(","), options.modes.split(","))


if __name__ == "__main__":
    main()
