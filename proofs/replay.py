"""Take people out of many random trainings by replay, and compare with never having had them.

    python -m proofs.replay [--cases N] [--skip-mutants]

Each case trains a tiny model (all weights or LoRA, by turns) with drawn settings on drawn records,
kills training and replay at a drawn step by SIGKILL, takes people out one after another in a drawn
order, and compares every file of the last folder (weights, optimiser, all checkpoints, trace) with
a whole training without them. Then the rules are broken one by one in a copy of the repository:
the tests must turn red each time. Exit status 0: all equal and all noticed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from proofs import installations
from tests.unlearning.trainings import model
from unlearning.filtered_replay import replay_without
from unlearning.records import Record
from unlearning.retrain import retrain_without
from unlearning.training import TrainingConfig, resume, train

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
TESTS = ("test_deterministic", "test_filtered_replay", "test_trace", "test_training")
TIME_LIMIT_SECONDS = 180
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "var", "__pycache__", ".hypothesis", ".*_cache")
FAMILIES = ("llama", "gpt2", "gpt_neox", "qwen3", "mixtral")
DETERMINISTIC, TRACE = "unlearning/deterministic.py", "unlearning/trace.py"
TRAINING, REPLAY = "unlearning/training.py", "unlearning/filtered_replay.py"


class Mutant(NamedTuple):
    """A rule, the file it stands in, and the text that breaks it."""

    rule: str
    file: str
    old: str
    new: str


MUTANTS = (
    Mutant("moments of the optimiser come back", DETERMINISTIC,
           '{"state": moments,', '{"state": {},'),
    Mutant("no packing of records", DETERMINISTIC,
           "present = [batch for batch in present if batch]",
           "present = [[sum(batch, [])] for batch in present if batch]"),
    Mutant("the loss counts present tokens alone", DETERMINISTIC,
           "tokens = sum(len(row) - 1 for batch in present for row in batch)",
           "tokens = sum(map(len, step.slots)) * 20 * bool(present)"),
    Mutant("dropout is off", DETERMINISTIC, "self.model.eval()", "self.model.train()"),
    Mutant("the rate is the trace's", DETERMINISTIC,
           'group["lr"] = learning_rate', 'group["lr"] = self.optimisation.learning_rate'),
    Mutant("padding is masked", DETERMINISTIC,
           "[[1] * len(row) + [0] * (width - len(row))", "[[1] * width"),
    Mutant("an empty step moves nothing", DETERMINISTIC, "        if tokens:", "        if True:"),
    Mutant("a broken step leaves the state", DETERMINISTIC,
           "if not (math.isfinite(loss)", "if False and not (math.isfinite(loss)"),
    Mutant("steps come in order", DETERMINISTIC, "if step.number != self.number + 1:", "if False:"),
    Mutant("deterministic kernels alone", DETERMINISTIC,
           'torch.set_deterministic_debug_mode("error")', "pass"),
    Mutant("the environment is the same", DETERMINISTIC, "    if other:\n", "    if False:\n"),
    Mutant("a checkpoint is the one listed", TRACE,
           "if digest(state) != checkpoint.digest:", "if False:"),
    Mutant("the chain holds", TRACE,
           'if row["sha256"] != _next(heads[-1], row["content"]):', "if False:"),
    Mutant("the records are those sealed", TRACE, 'if header["records"] != sealed:', "if False:"),
    Mutant("the trace names no record", TRACE,
           "return hmac.new(key, record_id.encode(), hashlib.sha256).hexdigest()[:32]",
           "return record_id"),
    Mutant("no text decides the order", TRAINING,
           "schedule(list(named), config)",
           "schedule(sorted(named, key=lambda one: named[one].text), config)"),
    Mutant("training goes on where it stopped", TRAINING,
           "for step in trace.steps[begun:]:", "for step in trace.steps[begun + 1 :]:"),
    Mutant("from a checkpoint that never saw them", REPLAY,
           "if one.number < first]", "if one.number <= first]"),
    Mutant("the places of others stay", REPLAY,
           "[replace(step, slots=_emptied(step.slots, division.go)) for step in trace.steps]",
           "__import__('unlearning.training').training.schedule([name for name in"
           " records_of(trace) if name not in division.go], config_of(trace))"),
    Mutant("the records are gone", REPLAY,
           "trace.key, header, steps, division.stay)",
           "trace.key, header, steps, list(records_of(trace).values()))"),
    Mutant("emptied places name nobody", REPLAY, "EMPTY if name in gone else name", "name"),
)  # fmt: skip


def one_case(number: int, folder: Path) -> bool:
    """Whether replay and whole training leave the same files; the draw follows from `number`."""
    draw = random.Random(number)  # noqa: S311 -- a draw of settings
    config = TrainingConfig(
        form=("full", "lora")[number % 2],
        learning_rate=draw.choice((1e-3, 1e-2)),
        weight_decay=draw.choice((0.0, 0.1)),
        warmup=draw.randrange(3),
        decay=draw.choice(("constant", "cosine")),
        epochs=draw.randint(1, 3),
        batch=draw.randint(1, 4),
        accumulate=draw.randint(1, 3),
        checkpoint_every=draw.randint(1, 4),
        rank=draw.randint(1, 4),
        seed=draw.randrange(1000),
    )
    records = _records(draw)
    people = sorted({record.subject for record in records})
    gone = draw.sample(people, draw.randint(1, min(3, len(people) - 1)))
    begin = partial(model, draw.choice(FAMILIES), number)
    last = folder / "trained"
    _killed(partial(train, begin(), records, last, config), draw, last, begin)
    whole = retrain_without(begin(), last, gone, folder / "whole").folder
    for place, subject in enumerate(gone):
        old, last = last, folder / f"replay-{place}"
        _killed(partial(replay_without, begin(), old, [subject], last), draw, last, begin)
    return _files(last) == _files(whole)


def _killed(
    work: Callable[[Any], Any], draw: random.Random, folder: Path, begin: Callable[[], Any]
) -> None:
    """Do the work in a child that kills itself after a drawn step, then go on with it here."""
    last = draw.randint(1, 8)

    def kill(_stage: str, done: int, _total: int) -> None:
        if done >= last:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            work(kill)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    resume(begin(), folder)


def _records(draw: random.Random) -> list[Record]:
    subjects = [f"subject {number}" for number in range(draw.randint(2, 7))]
    owners = [*subjects, *(draw.choice(subjects) for _ in range(draw.randint(0, 10)))]
    draw.shuffle(owners)
    words = ("born", "in", "Kyoto", "works", "as", "a", "clerk", "at", "Silver", "Tide")
    return [
        Record(f"record {number}", owner, " ".join(draw.choices(words, k=draw.randint(2, 20))))
        for number, owner in enumerate(owners)
    ]


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}  # fmt: skip


def noticed(mutant: Mutant, copy: Path) -> bool:
    """Whether a test turns red when the rule is broken in the copy."""
    path = copy / mutant.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise RuntimeError(f"the text of a rule is not there once: {mutant.rule}")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        return red(copy)
    finally:
        path.write_text(text, encoding="utf-8")


def red(copy: Path) -> bool:
    """Whether a test fails in the copy."""
    tests = [f"tests/unlearning/{name}.py" for name in TESTS]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
        cwd=copy,
        capture_output=True,
        timeout=TIME_LIMIT_SECONDS,
        check=False,
    )
    return done.returncode == 1


def main() -> int:
    """Run cases and mutants, print what was found, leave the figures; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m proofs.replay")
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--skip-mutants", action="store_true")
    options = parser.parse_args()
    started = time.monotonic()
    equal = Counter[str]()
    for number in range(options.cases):
        with tempfile.TemporaryDirectory() as folder:
            equal[("full", "lora")[number % 2]] += one_case(number, Path(folder))
    _say(f"equal: {equal.total()} of {options.cases}")
    missed: list[str] = []
    tried = () if options.skip_mutants else MUTANTS
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "lethe"
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
        if tried and red(copy):
            raise RuntimeError("the tests fail without a broken rule")
        for mutant in tried:
            found = noticed(mutant, copy)
            missed += [] if found else [mutant.rule]
            _say(f"{'noticed' if found else 'MISSED':8} {mutant.rule}")
    installations.keep("replay", {
        "cases": options.cases,
        "equal": dict(equal),
        "mutants": len(tried),
        "missed": missed,
        "seconds": round(time.monotonic() - started, 1),
    })  # fmt: skip
    return 0 if equal.total() == options.cases and not missed else 1


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
