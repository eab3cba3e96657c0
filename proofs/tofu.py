"""TOFU in small: every approximate method beside the model that never saw the authors to unlearn.

    python -m proofs.tofu [--authors 40] [--forget 4] [--methods npo ...] [--rates 1 3]

A small model is made from nothing on the authors of TOFU (LETHE_TOFU names its folder) and a second
one by exact unlearning, the full retrain without the authors to unlearn. Each method unlearns them
at its own learning rate and at multiples of it; no run is left out of the table. Both models are
kept in var/proofs, and so are the figures, after each run. All 200 authors take a GPU.
"""

from __future__ import annotations

import argparse
import sys
from statistics import mean
from typing import TYPE_CHECKING, Any

import torch  # noqa: TID253 -- the proof trains models

from language_models import NotReached, RequestError
from language_models.methods import public_config
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
from unlearning.settings import LIKELIHOOD

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from language_models import LanguageModel
    from proofs.tofu_data import Question, Split

WITHOUT_GPU = 40
RATES = (1.0, 3.0)
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


def settings(method: str, count: int, times: float) -> Any:
    """Return a method's own settings for `count` texts at `times` its learning rate."""
    config = METHODS[method].config
    given: dict[str, Any] = {} if method in SHORT else {"steps": STEPS}
    if method == "altpo":
        given["alternates"] = tuple(NEUTRAL[number % len(NEUTRAL)] for number in range(count))
    elif method == "idkdpo":
        given["refusals"] = REFUSALS
    elif method == "graddiff":  # by its own default it is kl_minimisation
        given["retain_loss"] = LIKELIHOOD
    return config(**given, learning_rate=float(f"{config().learning_rate * times:.2g}"))


def pairs(asked: Iterable[Question]) -> list[tuple[str, str]]:
    """Return questions as unlearning takes them."""
    return [(one.prompt, one.answer) for one in asked]


def ratios(lm: LanguageModel, split: Split) -> list[float]:
    """Return the log truth ratios on the questions to unlearn."""
    return [log_truth_ratio(one) for one in answers(lm, split.forget)]


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


def one_run(
    lm: LanguageModel, split: Split, reference: Sequence[float], method: str, times: float
) -> dict[str, Any]:
    """Unlearn by a method, measure what it left, and bring the weights back."""
    config = settings(method, len(split.forget), times)
    told = {"method": method, "config": public_config(config)}
    try:
        result = unlearn(lm, pairs(split.forget), pairs(split.retain), method, config)
    except NotReached as error:
        return {**told, "stopped": str(error)}
    found = measured(lm, split, reference)
    result.delta.undo(lm)
    return {**told, **found, "relative_change": result.details["relative_change"]}


COLUMNS = ("forget quality", "model utility", "ES", "EM", "ROUGE-L", "AUC loss", "AUC Min-K")


def table(result: dict[str, Any]) -> str:
    """Return the figures as a table in Markdown."""
    lines = [
        f"| model | rate | steps | {' | '.join(COLUMNS)} |",
        "|---|" + "---:|" * (len(COLUMNS) + 2),
    ]
    for row in result["rows"]:
        config = row.get("config", {"learning_rate": None, "steps": None})
        run = [f"{config[name]:g}" if config[name] else "-" for name in ("learning_rate", "steps")]
        cells = [row["method"], *run, *map(_cell, _values(row))]
        stopped = " stopped by the floor |" if "stopped" in row else ""
        lines.append(f"| {' | '.join(cells)} |{stopped}")
    return "\n".join(lines) + "\n"


def _values(row: dict[str, Any]) -> list[float | None]:
    names = ("forget_quality", "utility", "strength", "exact", "rouge")
    areas = row.get("auc", {})
    return [*(row.get(name) for name in names), areas.get("loss"), areas.get("min_k")]


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1e}" if 0 < value < 0.001 else f"{value:.3f}"


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
    folder.parent.mkdir(parents=True, exist_ok=True)
    whole, retrained = whole_and_retrained(data, folder, asked.epochs, progress)
    reference = ratios(retrained, data)
    rows = [
        {"method": name, **measured(lm, data, reference)}
        for name, lm in (("none: all authors", whole), ("exact: retrained", retrained))
    ]
    result = {"authors": asked.authors, "forget": asked.forget, "epochs": asked.epochs,
              "device": DEVICE, "rows": rows}  # fmt: skip
    for method in asked.methods:
        for times in asked.rates:
            rows.append(one_run(whole, data, reference, method, times))
            keep(f"tofu-{name}", result)
            say(table({"rows": rows[-1:]}).splitlines()[-1])
    return result


def main() -> int:
    """Run the proof; 0 also when TOFU is not there, which is told."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--authors", type=int, default=WITHOUT_GPU)
    parser.add_argument("--forget", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    times = "how many times its own learning rate each method is run at"
    parser.add_argument("--rates", nargs="+", type=float, default=RATES, help=times)
    asked = parser.parse_args()
    if missing():
        say(missing())
        return 0
    if asked.authors > WITHOUT_GPU and DEVICE == "cpu":
        parser.error(f"More than {WITHOUT_GPU} authors take a GPU, and torch finds none.")
    torch.set_num_threads(1)
    try:
        say(table(proof(asked)))
    except RequestError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
