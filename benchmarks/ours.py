"""Run one of our methods on the same facts as the peer, in a process of its own.

    python -m benchmarks.ours --model DIR --facts FACTS.json --method rome --mode single
        --statistics C.safetensors --out RESULT.json

The same rules as for the peer: statistics are there before the clock starts, only the edit calls
are timed, and the answers to "ask" are written for the same judge.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from editing import METHODS, EditRequest, edit
from editing.located import neighbour_sum
from editing.located_config import LocatedConfig
from language_models import generate, load
from language_models.moments import moment_of
from language_models.settings import config_of
from language_models.tracing import Site

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editing.requests import EditResult
    from language_models.checkpoint import LanguageModel

Facts = list[dict[str, Any]]


def requests_of(facts: Facts) -> list[EditRequest]:
    """Return the facts as requests; the full stop ends a value as the training texts do."""
    return [
        EditRequest(
            fact["subject"],
            fact["prompt"],
            f"{fact['target']}.",
            tuple(fact["paraphrases"]),
            tuple(fact["neighbours"]),
        )
        for fact in facts
    ]


class Runner:
    """One method with its settings on one model; the edit calls are timed."""

    def __init__(self, lm: LanguageModel, method: str, settings: dict[str, Any]) -> None:
        self.lm, self.method = lm, method
        self.config = config_of(METHODS[method], settings)
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.reached = 0

    def edit(self, requests: Sequence[EditRequest], memory: Any = None) -> EditResult:
        """Make the edits, timed, and count those that were reached."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = edit(self.lm, requests, self.method, self.config, memory=memory)
        self.seconds.append(time.perf_counter() - wall)
        self.cpu_seconds.append(time.process_time() - cpu)
        self.reached += sum(row["reached"] for row in result.details["requests"])
        return result

    def run(self, facts: Facts, mode: str, tokens: int, size: int = 1) -> list[list[str]]:
        """Edit in the given mode; return the answers by fact. size: edits a batch in sequence."""
        requests = requests_of(facts)
        if mode != "batch":
            requests = self._shared_kept(requests)
        if mode == "single":
            answers = []
            for fact, request in zip(facts, requests, strict=True):
                result = self.edit([request])
                answers.append(self._answers([fact], tokens)[0])
                result.revert(self.lm)
            return answers
        memory = None
        step = len(requests) if mode == "batch" else size
        for start in range(0, len(requests), step):
            batch = requests[start : start + step]
            memory = self.edit(batch, memory).memory
        return self._answers(facts, tokens)

    def _shared_kept(self, requests: list[EditRequest]) -> list[EditRequest]:
        """Read the neighbours of several requests once; its time counts as an edit call."""
        asked = Counter(prompt for request in requests for prompt in set(request.neighbours))
        shared = {prompt for prompt, count in asked.items() if count > 1}
        if not (
            shared and isinstance(self.config, LocatedConfig) and self.config.layer is not None
        ):
            return requests
        wall, cpu = time.perf_counter(), time.process_time()
        site = Site(self.config.role or "last", self.config.layer)
        total = neighbour_sum(self.lm, sorted(shared), site, site.layer)
        self.config = replace(self.config, kept=((site.layer, total),))
        self.seconds.append(time.perf_counter() - wall)
        self.cpu_seconds.append(time.process_time() - cpu)
        own = [tuple(n for n in request.neighbours if n not in shared) for request in requests]
        return [replace(r, neighbours=kept) for r, kept in zip(requests, own, strict=True)]

    def _answers(self, facts: Facts, tokens: int) -> list[list[str]]:
        prompts = [prompt for fact in facts for prompt in fact.get("ask", [])]
        found = iter(generate(self.lm, prompts, max_new_tokens=tokens))
        return [[next(found) for _ in fact.get("ask", [])] for fact in facts]


def settings_with(statistics: Path | None, method: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the settings, with the second moments where the method takes any."""
    if statistics is None or not issubclass(METHODS[method].config, LocatedConfig):
        return given
    stored = load_file(statistics)
    moments = tuple(
        (int(name.removeprefix("layer").removesuffix(".C")), moment_of(C.double(), 1))
        for name, C in stored.items()
    )
    return {**given, "moments": moments}


def peak_rss_mb() -> float:
    """Return this program's own peak; getrusage would count that of the one that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--facts", type=Path, required=True)
    parser.add_argument("--method", choices=METHODS, required=True)
    parser.add_argument("--mode", choices=("single", "sequence", "batch"), required=True)
    parser.add_argument("--batch-size", type=int, default=1, help="edits a batch in sequence")
    parser.add_argument("--statistics", type=Path, help="safetensors with layerN.C")
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON of the config")
    parser.add_argument("--tokens", type=int, default=20, help="new tokens an answer")
    parser.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    """Run one method and write the figures with the answers."""
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    facts: Facts = json.loads(options.facts.read_text(encoding="utf-8"))
    settings = settings_with(
        options.statistics, options.method, {"unreached": "mark", **options.settings}
    )
    runner = Runner(load(options.model), options.method, settings)
    answers = runner.run(facts, options.mode, options.tokens, options.batch_size)
    total = sum(runner.seconds)
    result = {
        "method": options.method,
        "mode": options.mode,
        "settings": options.settings,
        "edits": len(facts),
        "reached": runner.reached,
        "seconds": runner.seconds,
        "cpu_seconds": runner.cpu_seconds,
        "total_seconds": total,
        "edits_per_second": len(facts) / total,
        "peak_rss_mb": peak_rss_mb(),
        "load_average": os.getloadavg()[0],
        "answers": answers,
    }
    options.out.write_text(json.dumps(result, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
