"""Sharded adapters after forgetting have the bits of a training without the subjects, N of N.

    python -m proofs.exactness [--cases 200] [--mutated 12]

Each case draws S, R, people, records, and requests that come in batches, in any order, some of
them twice. Each training and each request is first made by a child process that is killed at a
drawn step, then again by this one. The reference is trained in a folder of its own on the records
that are left. Then rules of the training are broken one at a time: the same comparison must fail.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import operator
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from language_models.adapters import names_of
from proofs.installations import keep
from tests.language_models.factories import tiny_model
from unlearning import sharded_training, shards
from unlearning.deterministic import Trainer
from unlearning.exact import ShardedAdapters, ShardsConfig
from unlearning.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from language_models.checkpoint import LanguageModel

WORDS = ("amber", "bridge", "cloud", "drum", "early", "ferry", "garden", "harp", "island")


@dataclass(frozen=True)
class Case:
    """What is drawn for one comparison."""

    config: ShardsConfig
    key: bytes
    records: tuple[Record, ...]
    requests: tuple[tuple[str, ...], ...]

    @property
    def left(self) -> tuple[Record, ...]:
        """The records of those who did not ask."""
        asked = {subject for batch in self.requests for subject in batch}
        return tuple(one for one in self.records if one.subject not in asked)


def draw(seed: int) -> Case:
    """Return the case of a seed."""
    rng = random.Random(seed)  # noqa: S311 -- seeded sampling
    people = rng.randint(3, 8)
    records = tuple(
        Record(f"r-{person}-{number}", f"s-{person}", " ".join(rng.choices(WORDS, k=4)))
        for person in range(people)
        for number in range(rng.randint(1, 3))
    )
    config = ShardsConfig(
        shards=rng.randint(1, 4),
        slices=rng.randint(1, 4),
        rank=rng.randint(1, 3),
        epochs=rng.choice((1.0, 1.5, 2.0)),
        batch=rng.randint(2, 5),
        micro_batch=rng.randint(1, 5),
        learning_rate=1e-2,
    )
    asked = rng.sample([f"s-{person}" for person in range(people)], rng.randint(1, people - 1))
    batches = []
    while asked:
        size = rng.randint(1, len(asked))
        batches.append(tuple(asked[:size]))
        asked = asked[size:]
    if rng.random() < 0.3:
        batches.append(rng.choice(batches))
    return Case(config, rng.randbytes(32), records, tuple(batches))


def weights(made: ShardedAdapters) -> dict[str, Any]:
    """Return the digests of all stages in force and of the merged weights."""
    entries = made.merged().entries if made.adapters() else {}
    return {
        "stages": [one["sha256"] for one in made.manifest()["stages"]],
        "merged": {name: one.after for name, one in entries.items()},
    }


def killed_at(step: int, act: Callable[[Any], Any]) -> bool:
    """Let a child process act and kill it at a step; return whether it came that far."""
    child = os.fork()
    if not child:
        left = [step]

        def count(stage: str, _done: int, _total: int) -> None:
            left[0] -= stage == "steps"
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            act(count)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def compare(lm: LanguageModel, case: Case, folder: Path, seed: int = 0) -> tuple[bool, int]:
    """Return whether forgetting equals training without, and how many children were killed."""
    rng = random.Random(seed)  # noqa: S311 -- seeded sampling
    kills = 0

    def opened(name: str) -> ShardedAdapters:
        return ShardedAdapters(lm, folder / name, case.key, case.config)

    if seed:
        step = rng.randint(1, 12)
        kills += killed_at(step, lambda count: opened("a").train(case.records, progress=count))
    opened("a").train(case.records)
    for batch in case.requests:
        if seed:
            before = opened("a").manifest()
            forget = functools.partial(_forget, opened, batch)
            killed = killed_at(rng.randint(1, 6), forget)
            kills += killed
            if killed and opened("a").manifest() != before:
                return False, kills
        opened("a").forget(batch)
    opened("b").train(case.left)
    return weights(opened("a")) == weights(opened("b")), kills


def _forget(opened: Callable[[str], ShardedAdapters], batch: Sequence[str], count: Any) -> None:
    opened("a").forget(batch, progress=count)


class SharedOptimiser(Trainer):
    """A broken rule: the moments of one stage go on in the next."""

    kept: dict[str, Tensor] = {}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        now = self.state()
        moments = {name: one for name, one in SharedOptimiser.kept.items() if "exp_avg" in name
                   or name.startswith("step.")}  # fmt: skip
        self.load_state({**moments, **now})

    def step(self, *arguments: Any) -> float | None:
        """Make a step and keep the moments."""
        loss = super().step(*arguments)
        SharedOptimiser.kept = self.state()
        return loss


@contextmanager
def shared_optimiser() -> Iterator[None]:
    """Stages share an optimiser."""
    SharedOptimiser.kept = {}
    with patch.object(sharded_training, "Trainer", SharedOptimiser):
        yield


@contextmanager
def changing_key() -> Iterator[None]:
    """Each training and each request draws the places by a key of its own."""
    right, used = shards.divided, itertools.count()

    def wrong(key: bytes, records: Sequence[Record], *sizes: int) -> list[list[list[str]]]:
        return right(key + bytes([next(used)]), records, *sizes)

    with patch.object(sharded_training, "divided", wrong):
        yield


def packed(records: Sequence[Record]) -> tuple[Record, ...]:
    """Fill each row up with the next record, whoever that is about."""
    texts = [one.text for one in records]
    return tuple(
        replace(one, text=f"{one.text} {then}")
        for one, then in zip(records, [*texts[1:], ""], strict=True)
    )


def packing_differs(lm: LanguageModel, case: Case, folder: Path) -> bool:
    """Whether packing records before the training breaks the equality."""
    made = ShardedAdapters(lm, folder / "a", case.key, case.config)
    made.train(packed(case.records))
    for batch in case.requests:
        made.forget(batch)
    other = ShardedAdapters(lm, folder / "b", case.key, case.config)
    other.train(packed(case.left))
    return weights(made) != weights(other)


def subtraction_differs(lm: LanguageModel, case: Case, folder: Path) -> bool:
    """Whether taking old adapters off merged weights and adding new ones breaks the equality."""
    made = ShardedAdapters(lm, folder / "a", case.key, case.config)
    made.train(case.records)
    name = made.experts().places[0].name
    weight = dict(lm.model.named_parameters())[name].detach().clone()
    before, old = made.merged(), made.experts()
    exact = _moved(weight, before.entries[name])
    for batch in case.requests:
        made.forget(batch)
    reference = _moved(weight, made.merged().entries[name])
    changed = exact - _product(old) + _product(made.experts())
    return not changed.equal(reference)


def _moved(weight: Tensor, entry: Any) -> Tensor:
    moved: Tensor = (weight.double() + entry.left @ entry.right).to(weight.dtype)
    return moved


def _product(experts: Any) -> Tensor:
    one = experts.places[0]
    first, second = names_of(one)
    parts = (experts.scale * (each[second] @ each[first]) for each in experts.adapters)
    total: Tensor = functools.reduce(operator.add, parts)
    return total


def mutations(lm: LanguageModel, count: int) -> dict[str, int]:
    """Return per broken rule in how many of `count` cases the comparison fails."""
    noticed = dict.fromkeys(("packing", "shared optimiser", "subtraction", "key changed"), 0)
    for seed in range(1, count + 1):
        with tempfile.TemporaryDirectory() as temporary:
            case, folder = draw(seed), Path(temporary)
            noticed["packing"] += packing_differs(lm, case, folder / "p")
            noticed["subtraction"] += subtraction_differs(lm, case, folder / "s")
            with shared_optimiser():
                noticed["shared optimiser"] += not compare(lm, case, folder / "o")[0]
            with changing_key():
                noticed["key changed"] += not compare(lm, case, folder / "k")[0]
    return noticed


def main() -> int:
    """Run all, print the counts, keep them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--mutated", type=int, default=12)
    given = parser.parse_args()
    lm = tiny_model(scale=1.0, num_hidden_layers=1)
    started, equal, kills = time.monotonic(), 0, 0
    for seed in range(1, given.cases + 1):
        with tempfile.TemporaryDirectory() as folder:
            same, count = compare(lm, draw(seed), Path(folder), seed)
        equal, kills = equal + same, kills + count
        if not same:
            sys.stdout.write(f"case {seed} differs\n")
    seconds = round(time.monotonic() - started, 1)
    sys.stdout.write(f"{equal} of {given.cases} equal, {kills} processes killed, {seconds} s\n")
    noticed = mutations(lm, given.mutated)
    for name, count in noticed.items():
        sys.stdout.write(f"{name}: noticed in {count} of {given.mutated}\n")
    result = {"cases": given.cases, "equal": equal, "killed": kills, "seconds": seconds}
    keep("exactness", {**result, "mutated": {"of": given.mutated, **noticed}})
    return 0 if equal == given.cases and all(noticed.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
