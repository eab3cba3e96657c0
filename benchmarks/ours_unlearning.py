"""Unlearn one person by our NPO, in a process of its own, and time the call of `unlearn`.

    python -m benchmarks.ours_unlearning --model DIR --case CASE.json --mode fixed
        --weights WEIGHTS.safetensors --out RESULT.json

fixed: the steps of the case, no gates, as the peer trains. gated: the defaults of NPO on the values
in the texts, which the gates name as well, until the gates of the case hold. All that `unlearn`
does is timed: tokens, reference values, looks at gates and the exact change.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from benchmarks.peer_open_unlearning import peak_rss_mb
from language_models import NotReached, load
from language_models.delta import copy_weights
from unlearning import unlearn
from unlearning.gates import Gates, GatesNotHeld, Question
from unlearning.npo import NpoConfig
from unlearning.results import marked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unlearning.results import Text

MODES = ("fixed", "gated")


def gates_of(stored: dict[str, Any]) -> Gates:
    """Return gates as they were before `dataclasses.asdict` and JSON."""
    asked: dict[str, Any] = {
        name: tuple(Question(**one) for one in value) if isinstance(value, (list, tuple)) else value
        for name, value in stored.items()
    }
    return Gates(**asked)


def run(model: Path, case: dict[str, Any], mode: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Unlearn and return the figures and the weights by name; as they were, where no gate held."""
    lm = load(model, device="cpu", dtype="float32")
    gated = mode == "gated"
    config = NpoConfig() if gated else NpoConfig(**case["config"])
    gates = gates_of(case["gates"]) if gated else None
    forget: Sequence[Text] = case["forget"]
    if gated:
        forget = marked(case["forget"], case["values"])
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        told = unlearn(lm, forget, case["retain"], "npo", config, gates=gates).details
    except NotReached as error:
        looks = error.looks if isinstance(error, GatesNotHeld) else []
        told = {"steps": config.steps, "losses": [], "looks": looks, "reason": str(error)}
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    figures = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_rss_mb": peak_rss_mb(),
        "load_average": os.getloadavg()[0],
        "steps": told["steps"],
        "losses": [_whole_loss(loss, config) for loss in told["losses"]],
        "looks": told["looks"],
        "reached": "reason" not in told,
    }
    return figures, copy_weights(lm)


def _whole_loss(found: dict[str, float], config: NpoConfig) -> float:
    return config.forget_weight * found["forget"] + config.retain_weight * found["retain"]


def main() -> None:
    """Unlearn and write the figures and the weights."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--case", type=Path, required=True, help="texts, settings and gates")
    parser.add_argument("--mode", choices=MODES, required=True)
    parser.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
    parser.add_argument("--weights", type=Path, required=True, help="where the weights go")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    case = json.loads(options.case.read_text(encoding="utf-8"))
    figures, weights = run(options.model, case, options.mode)
    save_file(weights, options.weights)
    options.out.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
