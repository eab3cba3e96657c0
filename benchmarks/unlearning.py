"""Unlearning against open-unlearning: speed, memory and quality on the same people and model.

    LETHE_PEER_UNLEARNING=CHECKOUT LETHE_PEER_UNLEARNING_PYTHON=PEER/bin/python
        python -m benchmarks.unlearning

Three runs a person, each a process of its own, in turn: the peer's NPO for 40 steps, ours for the
same steps on the same rows, and ours with its own defaults, on the values in the same texts, until
its gates hold. The weights that each leaves are then put to the same gates. Without the two
variables only our side is measured and there is no ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from benchmarks.ours_unlearning import gates_of
from benchmarks.summary import MODEL, add, folder
from demo.people import people
from language_models import load
from language_models.delta import copy_weights, restore_weights
from proofs.approximate import gates, retained, texts_of
from unlearning.gates import Watch
from unlearning.loop import turns
from unlearning.npo import NpoConfig
from unlearning.rows import Row, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo.people import Person
    from language_models.checkpoint import LanguageModel

ROOT = Path(__file__).parents[1]
LONGEST = 600
STEPS = 40
SIDES = ("peer", "fixed", "gated")
# What both sides are given for the fixed steps; the peer's NPO knows no other settings.
SETTINGS: dict[str, Any] = {
    "forget_batch": 9,
    "retain_batch": 16,
    "beta": 0.1,
    "forget_weight": 1.0,
    "retain_weight": 5.0,
    "retain_loss": "likelihood",
    "learning_rate": 3e-4,
    "weight_decay": 0.01,
    "max_gradient": 1.0,
    "seed": 0,
}
Figures = dict[str, Any]


def drawn(rows: Sequence[Row], batch: int, config: NpoConfig, term: int) -> list[list[list[int]]]:
    """Return the token ids of the rows that ours draws in each step for the term of a number."""
    chosen = islice(turns(len(rows), batch, config.seed + term), config.steps)
    return [[rows[index].ids for index in part] for part in chosen]


def case_of(lm: LanguageModel, person: Person, steps: int = STEPS) -> dict[str, Any]:
    """Return one person's texts, gates and settings, and the rows of every fixed step."""
    forget, retain = texts_of(person), list(retained(person))
    config = NpoConfig(steps=steps, **SETTINGS)
    # As in the loop, each term draws by a seed of its own.
    batches = {
        "forget": drawn(rows_of(lm, forget, config.max_tokens), config.forget_batch, config, 0),
        "retain": drawn(rows_of(lm, retain, config.max_tokens), config.retain_batch, config, 1),
    }
    return {
        "forget": forget,
        "values": list(person.facts.values()),
        "retain": retain,
        "gates": asdict(gates(person)),
        "config": {"steps": steps, **SETTINGS},
        "steps": [
            {"forget": forget_rows, "retain": retain_rows}
            for forget_rows, retain_rows in zip(*batches.values(), strict=True)
        ],
    }


def tokens_of(case: dict[str, Any]) -> int:
    """Return the tokens of all fixed steps, padding not counted."""
    return sum(len(row) for step in case["steps"] for rows in step.values() for row in rows)


@dataclass
class Bench:
    """The model before, the peer's checkout and Python, and how both sides run."""

    lm: LanguageModel
    peer: tuple[str, str] | None
    threads: int

    def __post_init__(self) -> None:
        self.before = copy_weights(self.lm)

    @property
    def sides(self) -> list[str]:
        """The sides that can be measured here."""
        return [side for side in SIDES if side != "peer" or self.peer]

    def run(self, side: str, name: str, case: dict[str, Any]) -> Figures:
        """Run one side on one person and return its figures and what its weights answer."""
        runs = folder() / "runs"
        asked = runs / f"unlearning-{name}.json"
        weights, out = (runs / f"unlearning-{name}-{side}.{end}" for end in ("safetensors", "json"))
        asked.write_text(json.dumps(case), encoding="utf-8")
        environment = dict(os.environ)
        command = [sys.executable, "-m", "benchmarks.ours_unlearning", "--mode", side]
        if side == "peer" and self.peer:
            checkout, python = self.peer
            command = [python, str(ROOT / "benchmarks/peer_open_unlearning.py")]
            environment["PYTHONPATH"] = str(Path(checkout) / "src")
        options = {
            "--model": MODEL,
            "--case": asked,
            "--threads": self.threads,
            "--weights": weights,
            "--out": out,
        }
        done = subprocess.run(
            [*command, *(str(part) for pair in options.items() for part in pair)],
            cwd=ROOT,
            env={**environment, "OMP_NUM_THREADS": str(self.threads)},
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise SystemExit(f"{side} did not run: {last[:300]}")
        found: Figures = json.loads(out.read_text(encoding="utf-8"))
        return found | {"answers": self.answers(weights, case)}

    def answers(self, weights: Path, case: dict[str, Any]) -> Figures:
        """Return the shares that the weights answer, and whether the gates hold by our rule."""
        watch = Watch(self.lm, (), gates_of(case["gates"]), 0.0)
        restore_weights(self.lm, load_file(weights))
        held = watch.look(0)
        shares = {name: max(group.shares()) for name, group in watch.asked.items()}
        kept = {f"{name}_before": share for name, share in watch.before.items()}
        restore_weights(self.lm, self.before)
        return {**shares, **kept, "held": held}


def paired(name: str, over: Sequence[Figures], under: Sequence[Figures]) -> list[float]:
    """Return quotients of two sides, run by run: both of a pair were measured after each other."""
    return [top[name] / bottom[name] for top, bottom in zip(over, under, strict=True)]


def side_figures(runs: Sequence[Figures]) -> Figures:
    """Return the medians of one side over its runs, and in how many of them the gates hold."""
    names = ("seconds", "cpu_seconds", "peak_rss_mb", "load_average", "steps")
    return {
        **{name: median(run[name] for run in runs) for name in names},
        "runs": len(runs),
        "held": sum(run["answers"]["held"] for run in runs),
    }


def against(ours: Sequence[Figures], theirs: Sequence[Figures]) -> Figures:
    """Return how much faster ours is and its share of the peer's memory, medians over pairs."""
    times = paired("seconds", theirs, ours)
    return {
        "ratio": median(times),
        "ratios": [round(one, 3) for one in times],
        "cpu_ratio": median(paired("cpu_seconds", theirs, ours)),
        "memory_ratio": median(paired("peak_rss_mb", ours, theirs)),
    }


def loss_difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the largest difference of both sides' losses over the steps, relative to theirs."""
    pairs = zip(ours, theirs, strict=True)
    return max(abs(own - peer) / abs(peer) for own, peer in pairs)


def fixed_figures(measured: dict[str, dict[str, list[Figures]]], tokens: dict[str, int]) -> Figures:
    """Return the figures of the fixed steps over all people. measured: by person, by side."""
    found: Figures = {"ratio": None}
    sides = {"ours": "fixed", "peer": "peer"}
    runs = {
        name: [one for by_side in measured.values() for one in by_side.get(side, [])]
        for name, side in sides.items()
    }
    for name, side in sides.items():
        speeds = [
            tokens[person] / run["seconds"]
            for person, by_side in measured.items()
            for run in by_side.get(side, [])
        ]
        if speeds:
            found[name] = {"tokens_per_second": median(speeds), **side_figures(runs[name])}
    if runs["peer"]:
        found |= against(runs["ours"], runs["peer"])
        found["loss_difference"] = max(
            loss_difference(own["losses"], peer["losses"])
            for own, peer in zip(runs["ours"], runs["peer"], strict=True)
        )
    return found


def gated_figures(measured: dict[str, dict[str, list[Figures]]]) -> Figures:
    """Return per person the time to gates that hold; the ratio is the least of all people's.

    There is none where a person's gates do not hold by the check: no result, no time to it.
    """
    rows = []
    for person, by_side in measured.items():
        own = by_side["gated"]
        row: Figures = {
            "person": person,
            "ours": {**side_figures(own), "answers": own[-1]["answers"]},
        }
        if peer := by_side.get("peer"):
            row["peer"] = {**side_figures(peer), "answers": peer[-1]["answers"]}
            row |= against(own, peer)
        if row["ours"]["held"] < len(own):
            row["ratio"] = None
        rows.append(row)
    ratios = [row.get("ratio") for row in rows]
    known = [ratio for ratio in ratios if ratio is not None]
    return {"ratio": min(known) if len(known) == len(rows) else None, "people": rows}


def table(fixed: Figures, gated: Figures) -> str:
    """Return the figures as lines to read."""
    lines = []
    for name in ("ours", "peer"):
        if one := fixed.get(name):
            lines.append(
                f"{name}: {one['tokens_per_second']:,.0f} tokens/s, {one['seconds']:.2f} s,"
                f" {one['peak_rss_mb']:.0f} MB, gates hold in {one['held']} of {one['runs']} runs"
            )
    lines.append(f"fixed steps, ratio {told(fixed['ratio'])}")
    for row in gated["people"]:
        parts = [
            f"{name} {one['seconds']:.2f} s, {one['steps']:.0f} steps, held {one['held']} of"
            f" {one['runs']}"
            for name, one in row.items()
            if name in ("ours", "peer")
        ]
        lines.append(f"{row['person']}: {'; '.join(parts)}; ratio {told(row.get('ratio'))}")
    lines.append(f"until gates hold, least ratio {told(gated['ratio'])}")
    return "\n".join(lines)


def told(ratio: float | None) -> str:
    """Return a ratio as text; there may be none."""
    return "none" if ratio is None else f"{ratio:.2f}"


def measure(bench: Bench, chosen: Sequence[Person], runs: int) -> None:
    """Measure all sides in turn; the figures are kept after every round, the table comes last."""
    cases = {person.id: case_of(bench.lm, person) for person in chosen}
    tokens = {name: tokens_of(case) for name, case in cases.items()}
    measured: dict[str, dict[str, list[Figures]]] = {name: {} for name in cases}
    for turn in range(runs):
        # Another side begins each time, so that none always runs after the same one.
        first = turn % len(bench.sides)
        for name, case in cases.items():
            for side in bench.sides[first:] + bench.sides[:first]:
                found = bench.run(side, name, case)
                measured[name].setdefault(side, []).append(found)
                print(side, name, f"{found['seconds']:.2f} s", found["answers"], flush=True)
        fixed, gated = fixed_figures(measured, tokens), gated_figures(measured)
        shared = {"runs": turn + 1, "threads": bench.threads}
        add(
            "unlearning.npo",
            {**fixed, **shared, "people": len(cases), "settings": {"steps": STEPS, **SETTINGS}},
        )
        add("unlearning.npo_verified", {**shared, **gated})
    print(table(fixed, gated))


def main() -> None:
    """Measure both figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--runs", type=int, default=3, help="of each side on each person")
    parser.add_argument("--threads", type=int, default=2, help="of both sides")
    options = parser.parse_args()
    if not 1 <= options.people <= len(people()) or options.runs < 1:
        parser.error("--people takes 1 to 64, --runs at least 1.")
    checkout = os.environ.get("LETHE_PEER_UNLEARNING")
    python = os.environ.get("LETHE_PEER_UNLEARNING_PYTHON")
    peer = (checkout, python) if checkout and python else None
    if peer is None:
        print(
            "LETHE_PEER_UNLEARNING and LETHE_PEER_UNLEARNING_PYTHON are not set: only our side is"
            " measured."
        )
    (folder() / "runs").mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    chosen = people()[:: len(people()) // options.people][: options.people]
    measure(Bench(load(MODEL, device="cpu"), peer, options.threads), chosen, options.runs)


if __name__ == "__main__":
    main()
