"""Does a plan find a leak as often as it says? One person planted in the demo model at known rates.

    python -m proofs.power [--plans 120]

A fictional person whom the model never met is learnt for so few steps that the values come out in
about 1, 5 and 20 of 100 probes; the steps are found by bisection. The true rate is that of at least
20,000 probes drawn as a plan draws its leak probes. Then plans of several sizes are drawn with
other seeds: how often at least one leak is found, beside 1 - (1 - p)^n, and how often the upper
bounds cover the true rate. Figures in var/proofs.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch  # noqa: TID253 -- the proof trains a model

from demo.corpus import wordings
from demo.people import RELATIONS, people
from evaluation import Design, Person, plan
from evaluation.answers import Weights
from evaluation.asked import ask
from evaluation.attacks.learning import learnt
from evaluation.results import group_results
from evaluation.risk import power
from language_models import load
from proofs.approximate import MODEL, made_texts, never_trained
from proofs.installations import keep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from evaluation import GroupResult, Plan
    from language_models.checkpoint import LanguageModel

TARGETS = (0.01, 0.05, 0.2)
SIZES = (30, 100, 300)
DRAWS = 20_100  # for the true rate: 67 plans of 300
PILOT = 8  # plans of 300 for each look of the bisection
MOST_STEPS = 64
# So small that a step more brings out little more.
TRAINING = {"learning_rate": 5e-5, "batch": 8, "seed": 0}


def person() -> Person:
    """Return someone whom the demo model never met."""
    one = never_trained()[0]
    return Person("planted", one.name, one.facts)


def plans(seeds: Iterable[int], probes: int) -> list[Plan]:
    """Return a plan of leak probes for each seed, as wordings of verification ask."""
    words, subject = wordings(), person()
    others = [Person(one.id, one.name, one.facts) for one in people()]
    design = Design(
        subject=subject,
        others=others,
        wordings={fact: words[fact]["verify"] for fact in RELATIONS},
        used=[wording for fact in RELATIONS for wording in words[fact]["change"]],
        leak=RELATIONS,
        lead_ins=words["lead_ins"]["verify"],
        other_people=0,
        leak_probes=probes,
        max_new_tokens=24,
    )
    return [plan(replace(design, seed=seed)) for seed in seeds]


def asked(lm: LanguageModel, drawn: Sequence[Plan]) -> list[GroupResult]:
    """Return the leak group of each plan; greedy questions that several share are asked once."""
    named = [
        [replace(probe, id=f"{number}-{probe.id}") for probe in one.probes if probe.group == "leak"]
        for number, one in enumerate(drawn)
    ]
    hits = set(ask(Weights(lm), drawn[0], [probe for probes in named for probe in probes]).hits)
    return [group_results(probes, hits)["leak"] for probes in named]


def rate(results: Sequence[GroupResult]) -> float:
    """Return the share of all probes that leak."""
    return sum(one.hits for one in results) / sum(one.n for one in results)


def steps_for(target: float, look: Callable[[int], float], most: int) -> int:
    """Return the steps, 1 to `most`, at which the rate that `look` finds comes nearest to target.

    The rate is taken to grow with the steps.
    """
    low, high = 0, most
    seen: dict[int, float] = {}
    while high - low > 1:
        middle = (low + high) // 2
        seen[middle] = look(middle)
        low, high = (middle, high) if seen[middle] < target else (low, middle)
    for step in (low, high):
        if step and step not in seen:
            seen[step] = look(step)
    return min(seen, key=lambda step: abs(math.log((seen[step] + 1e-6) / target)))


def row(p: float, n: int, results: Sequence[GroupResult]) -> dict[str, Any]:
    """Return what plans of one size found at the true rate p."""
    count = len(results)
    return {
        "rate": p,
        "probes": n,
        "plans": count,
        "found": sum(one.hits > 0 for one in results) / count,
        "stated": power(p, n),
        "upper_covers": sum(one.upper_95 >= p for one in results) / count,
        "upper_by_prompt_covers": sum(one.upper_by_prompt >= p for one in results) / count,
    }


def holds(found: dict[str, Any]) -> bool:
    """Whether a row keeps what is stated, the power within three standard errors."""
    error = math.sqrt(found["stated"] * (1 - found["stated"]) / found["plans"])
    covers = min(found["upper_covers"], found["upper_by_prompt_covers"])
    return bool(found["found"] >= found["stated"] - 3 * error and covers >= 0.95)


def planted(lm: LanguageModel, target: float, count: int) -> list[dict[str, Any]]:
    """Plant the person at about the target, and return a row for each size of plan."""
    subject = never_trained()[0]
    texts = made_texts(subject, 60)
    pilot = plans(range(900_000, 900_000 + PILOT), 300)

    def look(steps: int) -> float:
        with learnt(lm, texts, steps=steps, **TRAINING):  # type: ignore[arg-type]
            found = rate(asked(lm, pilot))
        say(f"{steps} steps: {found:.2%}")
        return found

    steps = steps_for(target, look, MOST_STEPS)
    with learnt(lm, texts, steps=steps, **TRAINING):  # type: ignore[arg-type]
        true = rate(asked(lm, plans(range(500_000, 500_000 + DRAWS // 300), 300)))
        rows = [row(true, n, asked(lm, plans(range(count), n))) for n in SIZES]
    return [{"target": target, "steps": steps, "draws": DRAWS, **one} for one in rows]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a table in Markdown."""
    lines = [
        "| about | steps | true rate | probes | plans | a leak found | stated"
        " | bound covers | by prompt |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {one['target']:.0%} | {one['steps']} | {one['rate']:.2%} | {one['probes']}"
        f" | {one['plans']} | {one['found']:.1%} | {one['stated']:.1%}"
        f" | {one['upper_covers']:.1%} | {one['upper_by_prompt_covers']:.1%} |"
        for one in rows
    ]
    return "\n".join(lines) + "\n"


def say(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the proof; 0 when power and bounds are as stated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plans", type=int, default=120)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lm, rows, begun = load(MODEL, device="cpu"), [], time.perf_counter()
    for target in TARGETS:
        rows += planted(lm, target, options.plans)
        keep("power", {"rows": rows, "seconds": round(time.perf_counter() - begun, 1)})
        say(table(rows[-len(SIZES) :]))
    say(table(rows))
    return 0 if all(map(holds, rows)) else 1


if __name__ == "__main__":
    sys.exit(main())
