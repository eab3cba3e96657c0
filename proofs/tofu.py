"""TOFU in small: every approximate method beside the model that never saw the authors to unlearn.

    python -m proofs.tofu [--authors 40] [--forget 4] [--epochs 20] [--methods npo simnpo ...]

A small model is made from nothing on the authors of TOFU (LETHE_TOFU names its folder) and a second
one by exact unlearning, the full retrain without the authors to unlearn. Each method unlearns them
at several learning rates; the run kept is the gentlest whose extraction strength is not above that
of the retrained model on the same answers, or else the run with the lowest. Both models are kept in
var/proofs, and so are the figures, after each method. All 200 authors take a GPU.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING, Any

import torch  # noqa: TID253 -- the proof trains models

from language_models import NotReached
from proofs.installations import ROOT, keep
from proofs.memorisation import auc, token_scores
from proofs.tofu_data import missing, split
from proofs.tofu_models import DEVICE, whole_and_retrained
from proofs.tofu_scores import (
    answers,
    forget_quality,
    log_truth_ratio,
    rouge_of,
    utility,
)
from unlearning import METHODS, unlearn

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from language_models import LanguageModel
    from proofs.tofu_data import Question, Split
    from unlearning.results import UnlearnResult

WITHOUT_GPU = 40
# Times a method's own learning rate, the gentlest first.
RATES = (1.0, 3.0, 10.0)
STEPS = 60
# Nothing holds the rest of the model in these: they keep their own few steps.
SHORT = ("gradient_ascent", "task_vector")
NEUTRAL = (
    "There is no public information on this.",
    "Nothing about this has been made public.",
    "This is not publicly known.",
)
REFUSALS = (
    "I have no information on this.",
    "I do not know the answer to this question.",
    "This is not something I can tell.",
)


@dataclass(frozen=True)
class Bench:
    """What all methods begin with and are held against.

    reference, strength: of the retrained model on the questions to unlearn, log truth ratios and
    mean extraction strength.
    """

    lm: LanguageModel
    split: Split
    reference: list[float]
    strength: float

    def settings(self, method: str, times: float) -> Any:
        """Return a method's own settings at `times` its learning rate."""
        config, count = METHODS[method].config, len(self.split.forget)
        given: dict[str, Any] = {} if method in SHORT else {"steps": STEPS}
        if method == "altpo":
            given["alternates"] = tuple(NEUTRAL[n % len(NEUTRAL)] for n in range(count))
        elif method == "idkdpo":
            given["refusals"] = REFUSALS
        return config(**given, learning_rate=config().learning_rate * times)


def pairs(asked: Iterable[Question]) -> list[tuple[str, str]]:
    """Return questions as unlearning takes them."""
    return [(one.prompt, one.answer) for one in asked]


def ratios(lm: LanguageModel, split: Split) -> list[float]:
    """Return the log truth ratios on the questions to unlearn."""
    return [log_truth_ratio(one) for one in answers(lm, split.forget)]


def held(lm: LanguageModel, asked: Sequence[Question]) -> float:
    """Return the mean extraction strength of answers."""
    return mean(one["strength"] for one in token_scores(lm, pairs(asked)))


def measured(lm: LanguageModel, split: Split, reference: Sequence[float]) -> dict[str, Any]:
    """Return all figures of a model; without a holdout those of membership are None."""
    own, others = (token_scores(lm, pairs(asked)) for asked in (split.forget, split.holdout))
    areas = {
        name: auc([one[name] for one in own], [one[name] for one in others]) if others else None
        for name in ("loss", "min_k")
    }
    return {
        "forget_quality": forget_quality(ratios(lm, split), reference),
        "strength": mean(one["strength"] for one in own),
        "exact": mean(one["exact"] for one in own),
        "rouge": rouge_of(lm, split.forget),
        "auc": areas,
        **utility(lm, split),
    }


def one_method(bench: Bench, method: str) -> dict[str, Any]:
    """Unlearn at each learning rate, keep a run by the rule, measure it; the weights come back."""
    forget, retain = pairs(bench.split.forget), pairs(bench.split.retain)
    runs: list[dict[str, Any]] = []
    chosen: tuple[float, UnlearnResult] | None = None
    for times in RATES:
        config = bench.settings(method, times)
        told: dict[str, Any] = {"learning_rate": config.learning_rate}
        runs.append(told)
        try:
            result = unlearn(bench.lm, forget, retain, method, config)
        except NotReached as error:
            told["stopped"] = str(error)
            break
        told |= {"steps": result.details["steps"], "strength": held(bench.lm, bench.split.forget)}
        result.delta.undo(bench.lm)
        if chosen is None or told["strength"] < chosen[0]:
            chosen = told["strength"], result
        if told["strength"] <= bench.strength:
            break
    if chosen is None:
        return {"runs": runs}
    delta, details = chosen[1].delta, chosen[1].details
    delta.write(bench.lm)
    found = measured(bench.lm, bench.split, bench.reference)
    delta.undo(bench.lm)
    return {"runs": runs, "config": details["config"], **found,
            "relative_change": details["relative_change"]}  # fmt: skip


COLUMNS = ("forget quality", "model utility", "ES", "EM", "ROUGE-L", "AUC loss", "AUC Min-K")


def table(result: dict[str, Any]) -> str:
    """Return the figures as a table in Markdown."""
    lines = [f"| model | {' | '.join(COLUMNS)} | run |", "|---|" + "---:|" * len(COLUMNS) + "---|"]
    for name, row in result["rows"].items():
        cells = [_cell(value) for value in _values(row)]
        lines.append(f"| {name} | {' | '.join(cells)} | {_run(row)} |")
    return "\n".join(lines) + "\n"


def _values(row: dict[str, Any]) -> list[float | None]:
    names = ("forget_quality", "utility", "strength", "exact", "rouge")
    areas = row.get("auc", {})
    return [*(row.get(name) for name in names), areas.get("loss"), areas.get("min_k")]


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1e}" if 0 < value < 0.001 else f"{value:.3f}"


def _run(row: dict[str, Any]) -> str:
    """Return how the run came about: its learning rate and steps, and where the floor stopped."""
    stopped = [f"{one['learning_rate']:.1e}" for one in row.get("runs", ()) if "stopped" in one]
    told = [f"stopped by the floor at {rate}" for rate in stopped]
    if "config" in row:
        told.insert(0, f"lr {row['config']['learning_rate']:.1e}, {row['config']['steps']} steps")
    return "; ".join(told)


def say(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def progress(act: str, done: int, of: int) -> None:
    """Tell every hundredth step of a training."""
    if done % 100 == 0:
        say(f"{act} {done} of {of}")


def proof(asked: argparse.Namespace) -> dict[str, Any]:
    """Train both models if need be, measure them, then each method."""
    data = split(asked.authors, asked.forget)
    name = f"{asked.authors}-{asked.forget}-{asked.epochs}"
    folder = ROOT / "var/proofs/tofu" / name
    whole, retrained = whole_and_retrained(data, folder, asked.epochs, progress)
    reference = ratios(retrained, data)
    rows = {
        "all authors": measured(whole, data, reference),
        "exact (retrained)": measured(retrained, data, reference),
    }
    bench = Bench(whole, data, reference, rows["exact (retrained)"]["strength"])
    result = {"authors": asked.authors, "forget": asked.forget, "epochs": asked.epochs,
              "device": DEVICE, "rows": rows}  # fmt: skip
    say(table(result))
    for method in asked.methods:
        rows[method] = one_method(bench, method)
        keep(f"tofu-{name}", result)
        say(f"{method}: {rows[method]['runs']}")
    say(table(result))
    return result


def main() -> int:
    """Run the proof; 0 also when TOFU is not there, which is told."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--authors", type=int, default=WITHOUT_GPU)
    parser.add_argument("--forget", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    asked = parser.parse_args()
    if missing():
        say(missing())
        return 0
    if asked.authors > WITHOUT_GPU and DEVICE == "cpu":
        parser.error(f"More than {WITHOUT_GPU} authors take a GPU, and torch finds none.")
    torch.set_num_threads(1)
    proof(asked)
    return 0


if __name__ == "__main__":
    sys.exit(main())
