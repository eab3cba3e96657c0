"""Many short answers: our generation, and known values without writing, against transformers' own.

    python -m benchmarks.evaluation [--runs 5] [--threads 2]

The probes are those of plans about a few people of the demo, who are asked for every fact in every
wording that the model was not trained on. Five sides in turn, several times in
one process: a loop of single `generate` calls, `generate` on left-padded batches, our generation,
one plain forward over padded batches of prompts with their values, and our question whether the
greedy answer begins with the value on file. Rates are medians of prompts a second; a ratio is that
of rates of the same round, as the machine is shared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.summary import MODEL, ROOT, add, folder
from demo.corpus import wordings
from demo.people import RELATIONS, people
from evaluation.known_value import begins_with, starts
from language_models import load
from language_models.generation import generate
from language_models.padding import pad_right
from language_models.positions import with_targets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from language_models.checkpoint import LanguageModel

PROMPTS, SINGLE, BATCH, NEW_TOKENS = 2000, 200, 256, 12
# With room for every value of the demo: what the forced answers are compared with.
WHOLE_VALUE = 48
LONGEST = 3600
# Ratios of rates, see figures().
WANTED = {"generate": 25.0, "padded": 1.25, "known_value": 60.0}
SIDES = ("loop", "padded", "generate", "forced", "known_value")
# What one of two keys alone is about.
APART = {"generate": ("generate", "padded"), "known_value": ("known_value", "forced")}
Figures = dict[str, Any]


@dataclass(frozen=True)
class Timed:
    """What a side answered, and how long it took on the wall and on all cores."""

    answers: Sequence[Any]
    seconds: float
    cpu_seconds: float

    @property
    def rates(self) -> tuple[float, float]:
        """Prompts per second on the wall, and per second of the processor."""
        return len(self.answers) / self.seconds, len(self.answers) / self.cpu_seconds


def questions(count: int = PROMPTS) -> list[tuple[str, str]]:
    """Return (prompt, value on file) as plans put them: a person's facts in every wording kept for
    verification, behind every lead-in; as many people as it takes.
    """
    words, every = wordings(), people()
    each = [
        (fact, lead_in + wording)
        for fact in RELATIONS
        for wording in words[fact]["verify"]
        for lead_in in words["lead_ins"]["verify"]
    ]
    needed = -(-count // len(each))
    chosen = every[:: len(every) // needed][:needed]
    return [
        (wording.format(person.name), person.facts[fact])
        for person in chosen
        for fact, wording in each
    ][:count]


def single(lm: LanguageModel, prompts: Sequence[str]) -> list[str]:
    """Return greedy answers as a loop of transformers' own `generate` writes them."""
    texts = []
    for prompt in prompts:
        given = lm.tokenizer(prompt, return_tensors="pt")
        texts += _written(lm, given, NEW_TOKENS)
    return texts


def padded(lm: LanguageModel, prompts: Sequence[str]) -> list[str]:
    """Return them from batches padded on the left, in the order given."""
    before = lm.tokenizer.padding_side
    lm.tokenizer.padding_side = "left"
    try:
        texts = []
        for start in range(0, len(prompts), BATCH):
            part = list(prompts[start : start + BATCH])
            texts += _written(lm, lm.tokenizer(part, return_tensors="pt", padding=True), NEW_TOKENS)
    finally:
        lm.tokenizer.padding_side = before
    return texts


@torch.inference_mode()
def forced(lm: LanguageModel, asked: Sequence[tuple[str, str]]) -> list[bool]:
    """Return whether each value's tokens are the likeliest behind its prompt, as transformers' own
    forward tells for batches of like length, padded at the end.
    """
    rows = with_targets(lm, asked)
    order = sorted(range(len(rows)), key=lambda number: len(rows[number][0]))
    told = [False] * len(rows)
    for begin in range(0, len(order), BATCH):
        part = order[begin : begin + BATCH]
        ids, mask = pad_right(lm, [rows[number][0] for number in part])
        logits = lm.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        for number, likeliest in zip(part, logits.argmax(dim=-1).tolist(), strict=True):
            row, start = rows[number]
            told[number] = likeliest[start - 1 : len(row) - 1] == row[start:]
    return told


def _written(lm: LanguageModel, given: Any, new_tokens: int) -> list[str]:
    ids = given["input_ids"]
    with torch.inference_mode():
        found = lm.model.generate(
            input_ids=ids,
            attention_mask=given["attention_mask"],
            max_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=lm.tokenizer.pad_token_id,
        )
    texts: list[str] = lm.tokenizer.batch_decode(found[:, ids.shape[1] :], skip_special_tokens=True)
    return texts


def timed(side: Callable[[], Sequence[Any]]) -> Timed:
    """Run a side once."""
    wall, processor = time.perf_counter(), time.process_time()
    answers = side()
    return Timed(answers, time.perf_counter() - wall, time.process_time() - processor)


def sides(
    lm: LanguageModel, asked: Sequence[tuple[str, str]], singles: int
) -> dict[str, Callable[[], Sequence[Any]]]:
    """Return the sides; the loop takes `singles` prompts, spread over all."""
    prompts, values = [one for one, _ in asked], [value for _, value in asked]
    few = prompts[:: len(prompts) // singles][:singles]
    return {
        "loop": lambda: single(lm, few),
        "padded": lambda: padded(lm, prompts),
        "generate": lambda: generate(lm, prompts, max_new_tokens=NEW_TOKENS),
        "forced": lambda: forced(lm, asked),
        "known_value": lambda: begins_with(lm, prompts, values).begins,
    }


def shares(
    lm: LanguageModel, asked: Sequence[tuple[str, str]], found: dict[str, Timed], singles: int
) -> Figures:
    """Return how many of the answers of two sides are equal, as shares."""
    ours = found["generate"].answers
    few = ours[:: len(ours) // singles][:singles]
    whole = generate(lm, [prompt for prompt, _ in asked], max_new_tokens=WHOLE_VALUE)
    told = [starts(text, value) for text, (_, value) in zip(whole, asked, strict=True)]
    return {
        "generate_as_loop": share(few, found["loop"].answers),
        "generate_as_padded": share(ours, found["padded"].answers),
        "known_value_as_forced": share(found["known_value"].answers, found["forced"].answers),
        "known_value_as_generate": share(found["known_value"].answers, told),
        "values_told": sum(told) / len(told),
    }


def share(one: Sequence[Any], other: Sequence[Any]) -> float:
    """Return the share of places at which both hold the same."""
    same = sum(bool(a == b) for a, b in zip(one, other, strict=True))
    return same / len(one)


def figures(rounds: Sequence[dict[str, Timed]]) -> Figures:
    """Return rates of all sides and their ratios, medians over the rounds; _cpu: by processor."""
    told: Figures = {}
    for place, end in enumerate(("", "_cpu")):
        rates = {side: [one[side].rates[place] for one in rounds] for side in SIDES}
        told |= {f"{side}_per_second{end}": median(found) for side, found in rates.items()}
        for name, over, under in (
            ("generate", "generate", "loop"),
            ("padded", "generate", "padded"),
            ("known_value", "known_value", "loop"),
            ("forced", "known_value", "forced"),
        ):
            pairs = zip(rates[over], rates[under], strict=True)
            told[f"{name}_ratio{end}"] = median(top / bottom for top, bottom in pairs)
    return told


def measure(threads: int, runs: int, count: int = PROMPTS, singles: int = SINGLE) -> Figures:
    """Measure all sides in turn on this many threads."""
    torch.set_num_threads(threads)
    lm, asked = load(MODEL, device="cpu"), questions(count)
    measured = sides(lm, asked, singles)
    loads, rounds = [], []
    for number in range(runs):
        loads.append(os.getloadavg()[0])
        # Another side begins each time, so that none always runs after the same one.
        first = number % len(measured)
        names = [*measured][first:] + [*measured][:first]
        rounds.append({name: timed(measured[name]) for name in names})
    return {
        **figures(rounds),
        **shares(lm, asked, rounds[-1], singles),
        "prompts": count,
        "singles": singles,
        "new_tokens": NEW_TOKENS,
        "threads": threads,
        "runs": runs,
        "load_average": loads,
    }


def keep(found: Figures) -> None:
    """Put the figures under both keys; what belongs to both stands beside each ratio."""
    shared = {
        name: found[name]
        for name in ("prompts", "singles", "new_tokens", "threads", "runs", "load_average")
    }
    for side, other in zip(APART, reversed(APART), strict=True):
        told = {
            name: one
            for name, one in found.items()
            if name not in shared and not name.startswith(APART[other])
        }
        add(f"evaluation.{side}", {"ratio": found[f"{side}_ratio"], **told, **shared})


def table(found: Figures) -> str:
    """Return the figures as a table in Markdown."""
    lines = [
        "| side | prompts/s | prompts per CPU second | over the loop | by CPU seconds |",
        "|---|---:|---:|---:|---:|",
    ]
    for side, label in (
        ("loop", "loop of single generate calls"),
        ("padded", f"generate, left-padded batches of {BATCH}"),
        ("generate", "ours"),
        ("forced", f"plain forward with the value, padded batches of {BATCH}"),
        ("known_value", "ours, value forced"),
    ):
        cells = [f"{found[f'{side}_per_second{end}']:,.1f}" for end in ("", "_cpu")]
        loop = (found["loop_per_second"], found["loop_per_second_cpu"])
        if side == "loop":
            ratios = ["1", "1"]
        elif side in ("padded", "forced"):
            ratios = [
                f"{found[f'{side}_per_second{end}'] / one:.1f}"
                for end, one in zip(("", "_cpu"), loop, strict=True)
            ]
        else:
            ratios = [f"{found[f'{side}_ratio{end}']:.1f}" for end in ("", "_cpu")]
        lines.append(f"| {label} | {' | '.join([*cells, *ratios])} |")
    lines += [
        "",
        f"ours over left-padded batches: {found['padded_ratio']:.2f}"
        f" ({found['padded_ratio_cpu']:.2f} by CPU seconds)",
        f"ours over the plain forward: {found['forced_ratio']:.2f}"
        f" ({found['forced_ratio_cpu']:.2f} by CPU seconds)",
        f"same answers: as the loop {found['generate_as_loop']:.2%}, as left-padded batches"
        f" {found['generate_as_padded']:.2%}; forced as generated"
        f" {found['known_value_as_generate']:.2%} ({found['values_told']:.1%} of values told), by"
        f" the plain forward {found['known_value_as_forced']:.2%}",
        *(
            f"{name} ratio: wanted {wanted:g}, "
            + ("reached" if found[f"{name}_ratio"] >= wanted else "not reached")
            for name, wanted in WANTED.items()
        ),
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure in a process of its own, whose threads wait as by default: else the loop slows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5, help="of each side, in turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.runs < 1 or options.threads < 1:
        parser.error("--runs and --threads take at least 1.")
    out = folder() / "runs" / "evaluation.json"
    if options.inside:
        out.write_text(json.dumps(measure(options.threads, options.runs)), encoding="utf-8")
        return 0
    out.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.evaluation", "--inside"]
    command += ["--runs", str(options.runs), "--threads", str(options.threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, cwd=ROOT, env=environment, timeout=LONGEST, check=False)
    if done.returncode:
        return done.returncode
    found = json.loads(out.read_text(encoding="utf-8"))
    keep(found)
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
