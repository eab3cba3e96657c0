"""TOFU's published logs put through our measures: the golden values, recomputed by code.

    LETHE_TOFU_LOGS=CHECKOUT/data python -m proofs.tofu_published

The logs lie in the folder data of TOFU's own repository (github.com/locuslab/tofu) and are read
from there, never copied. Wrong answers are joined by a geometric or an arithmetic mean of their
chances: TOFU's forget quality takes the one, its model utility in utils.py the other, so both are
told.
"""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from statistics import harmonic_mean, mean
from typing import TYPE_CHECKING, Any

from proofs.installations import keep
from proofs.tofu_scores import chance, distance, log_truth_ratio, p_value, truthful

if TYPE_CHECKING:
    from collections.abc import Sequence

Losses = tuple[float, ...]
SETS = {
    "retain": "eval_log.json",
    "real_authors": "eval_real_author_wo_options.json",
    "world_facts": "eval_real_world_wo_options.json",
}
FORGET = "eval_log_forget.json"
MEANS = ("geometric", "arithmetic")
LLAMA, PHI = "ft_epoch5_lr1e-05_llama2-7b", "ft_epoch5_lr2e-05_phi"
# (model, the one that it is held against) -> p-value by each mean; None: not known beforehand.
QUALITY: dict[tuple[str, str], tuple[float, float | None]] = {
    (f"{LLAMA}_full_wd0.01", f"{LLAMA}_retain90_wd0.01"): (1.834e-21, 6.032e-23),
    (f"{LLAMA}_full_wd0", f"{LLAMA}_retain90_wd0"): (1.097e-19, None),
    (f"{PHI}_full_wd0.01", f"{PHI}_retain90_wd0.01"): (2.19e-16, None),
}
GAP = 0.39667  # of the first of them, by the geometric mean
UTILITY = {
    f"{LLAMA}_full_wd0.01": (0.6227, 0.5859),
    f"{LLAMA}_retain90_wd0.01": (0.6137, 0.5752),
    f"{PHI}_full_wd0.01": (0.5221, 0.5034),
}


def folder() -> Path | None:
    """Return where the logs lie: LETHE_TOFU_LOGS, or nowhere."""
    named = os.environ.get("LETHE_TOFU_LOGS")
    return Path(named) if named else None


def missing() -> str:
    """Return why the logs cannot be read, empty when they can."""
    found = folder()
    if found is None:
        return "TOFU's logs are not here: LETHE_TOFU_LOGS names the folder data of its repository."
    models = {name for pair in QUALITY for name in pair} | set(UTILITY)
    gone = sorted(name for name in models if not (found / name).is_dir())
    return f"LETHE_TOFU_LOGS names a folder without {gone[0]}." if gone else ""


def read(model: str, name: str) -> dict[str, Any]:
    """Return one published log of a model."""
    found = folder()
    if found is None:
        raise FileNotFoundError(missing())
    path = found / model / "eval_results/ds_size300" / name
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return told


def losses_of(log: dict[str, Any]) -> list[Losses]:
    """Return per question the losses of the answer, of it restated, and of the wrong answers."""
    return [
        (own, log["avg_paraphrased_loss"][key], *log["average_perturb_loss"][key])
        for key, own in log["avg_gt_loss"].items()
    ]


def log_ratio(losses: Losses, joined: str) -> float:
    """Return the logarithm of the truth ratio, the wrong answers joined by one of MEANS."""
    if joined == "geometric":
        return log_truth_ratio(losses)
    _, restated, *wrong = losses
    return restated + math.log(mean(math.exp(-one) for one in wrong))


def quality(model: str, reference: str, joined: str) -> tuple[float, float]:
    """Return the gap D of both models' truth ratios on the forget set, and its p-value."""
    own, other = (
        [log_ratio(one, joined) for one in losses_of(read(name, FORGET))]
        for name in (model, reference)
    )
    gap = distance(own, other)
    return float(gap), p_value(gap, len(own))


def utility(logs: dict[str, dict[str, Any]], joined: str) -> float:
    """Return model utility from the logs of SETS by name."""
    scores: list[float] = []
    for name, log in logs.items():
        losses = losses_of(log)
        scores += [
            mean(chance(one, among=name != "retain") for one in losses),
            mean(log["rougeL_recall"].values()),
            mean(truthful(log_ratio(one, joined)) for one in losses),
        ]
    return harmonic_mean(scores)


def utility_of(model: str, joined: str) -> float:
    """Return the model utility of a published model."""
    return utility({name: read(model, file) for name, file in SETS.items()}, joined)


def rows() -> list[dict[str, Any]]:
    """Return every golden value beside what our measures make of the logs."""
    found = []
    for number, ((model, reference), golden) in enumerate(QUALITY.items()):
        for joined, value in zip(MEANS, golden, strict=True):
            gap, p = quality(model, reference, joined)
            found.append(_row(f"forget quality, {joined}", model, p, value, 1e-3))
            if number == 0 and joined == "geometric":
                found.append(_row("D", model, gap, GAP, 2e-5))
    for model, pair in UTILITY.items():
        for joined, value in zip(MEANS, pair, strict=True):
            own = utility_of(model, joined)
            found.append(_row(f"model utility, {joined}", model, own, value, 1e-4))
    return found


def _row(what: str, model: str, own: float, golden: float | None, within: float) -> dict[str, Any]:
    # Golden values are rounded; a p-value's last digit may be one of three.
    same = None if golden is None else abs(own - golden) <= 2 * within * golden
    return {"what": what, "model": model, "ours": own, "golden": golden, "same": same}


def table(found: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a table in Markdown."""
    lines = ["| figure | model | ours | published | same |", "|---|---|---:|---:|---|"]
    for row in found:
        told = "-" if row["golden"] is None else f"{row['golden']:.4g}"
        same = {None: "-", True: "yes", False: "no"}[row["same"]]
        lines.append(f"| {row['what']} | {row['model']} | {row['ours']:.5g} | {told} | {same} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the proof; 0 when every golden value came out, also when the logs are not there."""
    if missing():
        sys.stdout.write(missing() + "\n")
        return 0
    found = rows()
    keep("tofu-published", {"rows": found})
    sys.stdout.write(table(found))
    return 1 if any(row["same"] is False for row in found) else 0


if __name__ == "__main__":
    sys.exit(main())
