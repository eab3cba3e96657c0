"""General facts after 50 edits one after another: every question about nobody, over several seeds.

    python -m benchmarks.general --methods memit,rome --seeds 0,1,2

The tables of benchmarks.editing ask four of them after each fact; here are all, in the wordings
kept for verification.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from benchmarks.editing import LOCATED, traced_site
from benchmarks.facts import WORDINGS, facts
from benchmarks.ours import Runner, settings_with
from benchmarks.second_moments import write_statistics
from benchmarks.summary import MODEL, add, folder
from language_models import generate, load
from language_models.matching import contains

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from language_models.checkpoint import LanguageModel

TOKENS = 20


def answered(lm: LanguageModel) -> float:
    """Return the share (0 to 1) of questions about nobody whose answer holds what is expected."""
    asked = [(prompt, fact["answer"]) for fact in WORDINGS["world"] for prompt in fact["verify"]]
    answers = generate(lm, [prompt for prompt, _ in asked], max_new_tokens=TOKENS)
    hits = [contains(answer, due) for answer, (_, due) in zip(answers, asked, strict=True)]
    return sum(hits) / len(hits)


def after_a_sequence(
    method: str, seed: int, site: dict[str, Any], statistics: Path, count: int = 50
) -> float:
    """Return the share still answered after `count` edits, each with the memory of those before."""
    settings = settings_with(statistics, method, {"unreached": "mark", **site})
    runner = Runner(load(MODEL), method, settings)
    runner.run(facts(count, seed), "sequence", TOKENS)
    return answered(runner.lm)


def main() -> None:
    """Measure the methods that edit at the traced site."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--methods", default=",".join(LOCATED))
    parser.add_argument("--seeds", default="0,1,2")
    options = parser.parse_args()
    statistics = write_statistics(folder() / "statistics.safetensors")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    found: dict[str, Any] = {"unedited": answered(load(MODEL))}
    for method in options.methods.split(","):
        found[method] = [after_a_sequence(method, s, traced_site(s), statistics) for s in seeds]
        print(method, *(f"{share:.3f}" for share in found[method]), flush=True)
    add("editing.general", {"seeds": seeds, **found})


if __name__ == "__main__":
    main()
