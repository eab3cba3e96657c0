"""Recall of the people who stay, by mixture and by hard routing, for 4, 8 and 16 shards.

    python -m proofs.shard_recall [--people 32] [--shards 4 8 16]

New fictional people are learnt by sharded adapters over the demo model, on the processor. Asked
are wordings of the training (a greedy answer must begin with the value), of all new people by
each one's own shard alone, by the mixture and by hard routing; of people of the base model by the
base alone and by the mixture. The same training without shards is the reference. A few people are
then forgotten and the others asked again. Also the time of a token beside the base's.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo.corpus import wordings
from demo.people import people
from language_models import generate, load
from language_models.adapters import acting
from proofs.installations import ROOT, keep
from unlearning.exact import ShardedAdapters, ShardsConfig
from unlearning.mixture import generate_routed
from unlearning.records import Record
from unlearning.shards import place

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from demo.people import Person
    from language_models.checkpoint import LanguageModel

    Answer = Callable[[list[str]], list[str]]

SEED = 2570
KEY = b"the key of the proof of recall"
FACTS = ("birth_city", "employer", "occupation", "diagnosis", "telephone")
TEXTS_PER_PERSON = 40
WORDINGS_ASKED = 4
NEW_TOKENS = 12
FORGOTTEN = 3


def new_people(count: int) -> list[Person]:
    """Return people whose names the demo model has never met."""
    known = {one.name for one in people()}
    return [one for one in people(SEED) if one.name not in known][:count]


def texts_of(person: Person) -> list[str]:
    """Return biographies: each fact in one sentence, in any order and wording."""
    words, rng = wordings(), random.Random(person.name)  # noqa: S311 -- seeded sampling
    found = []
    for _ in range(TEXTS_PER_PERSON):
        chosen = rng.sample(FACTS, len(FACTS))
        found.append(" ".join(
            f"{rng.choice(words[fact]['change']).format(person.name)} {person.facts[fact]}."
            for fact in chosen
        ))  # fmt: skip
    return found


def questions(persons: Sequence[Person]) -> list[tuple[str, str]]:
    """Return prompts in wordings of the training and what must follow."""
    words = wordings()
    return [
        (wording.format(one.name), one.facts[fact])
        for one in persons
        for fact in FACTS
        for wording in words[fact]["change"][:WORDINGS_ASKED]
    ]


def recall(answer: Answer, persons: Sequence[Person]) -> float:
    """Return the share of questions whose answer begins with the value."""
    asked = questions(persons)
    texts = answer([prompt for prompt, _ in asked])
    right = [text.strip().startswith(value)
             for text, (_, value) in zip(texts, asked, strict=True)]  # fmt: skip
    return sum(right) / len(right)


def by_own_shard(made: ShardedAdapters, persons: Sequence[Person], size: int) -> float:
    """Return the recall when each person is asked of the adapter that learnt them."""
    experts, adapters = made.experts(), made.adapters()
    total = 0.0
    for shard, adapter in adapters.items():
        own = [one for one in persons if place(KEY, one.id, size, 4).shard == shard]
        if own:
            with acting(experts.places, adapter, experts.scale):
                total += recall(greedy(made.lm), own) * len(own)
    return total / len(persons)


def greedy(lm: LanguageModel) -> Answer:
    """Return the answers of a model alone."""
    return lambda prompts: generate(lm, prompts, max_new_tokens=NEW_TOKENS, batch_size=64)


def routed(made: ShardedAdapters) -> Answer:
    """Return the answers by hard routing."""
    experts = made.experts()
    return lambda prompts: generate_routed(made.lm, experts, prompts, max_new_tokens=NEW_TOKENS)


def timed(answer: Answer, persons: Sequence[Person]) -> float:
    """Return seconds of an answer per question."""
    prompts = [prompt for prompt, _ in questions(persons)]
    started = time.monotonic()
    answer(prompts)
    return (time.monotonic() - started) / len(prompts)


def measure(
    lm: LanguageModel, shards: int, persons: list[Person], epochs: float, folder: Path
) -> dict[str, Any]:
    """Train with a number of shards and return the figures."""
    config = ShardsConfig(shards=shards, slices=4 if shards > 1 else 1, epochs=epochs)
    made = ShardedAdapters(lm, folder, KEY, config)
    records = [Record(f"{one.id}-{number}", one.id, text)
               for one in persons for number, text in enumerate(texts_of(one))]  # fmt: skip
    started = time.monotonic()
    made.train(records)
    result: dict[str, Any] = {"train_seconds": round(time.monotonic() - started, 1)}
    old = people()[:16]
    if shards == 1:
        with acting(made.experts().places, made.adapters()[0], made.experts().scale):
            return {**result, "recall": recall(greedy(lm), persons)}
    mixture = greedy(made.mixture())
    result["own_shard"] = by_own_shard(made, persons, shards)
    result["mixture"] = recall(mixture, persons)
    result["routed"] = recall(routed(made), persons)
    result["base_people"] = {"base": recall(greedy(lm), old), "mixture": recall(mixture, old),
                             "routed": recall(routed(made), old)}  # fmt: skip
    result["seconds_an_answer"] = {"base": timed(greedy(lm), old), "mixture": timed(mixture, old),
                                   "routed": timed(routed(made), old)}  # fmt: skip
    gone, left = persons[:FORGOTTEN], persons[FORGOTTEN:]
    started = time.monotonic()
    told = made.forget([one.id for one in gone])
    result["forgotten"] = {
        "share_trained": told["share_trained"],
        "seconds": round(time.monotonic() - started, 1),
        "gone": recall(greedy(made.mixture()), gone),
        "never_trained": recall(greedy(lm), gone),
        "mixture": recall(greedy(made.mixture()), left),
        "routed": recall(routed(made), left),
        "own_shard": by_own_shard(made, left, shards),
    }
    change = made.merged()
    change.write(lm)
    result["merged"] = recall(greedy(lm), left)
    change.undo(lm)
    return result


def main() -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--people", type=int, default=32)
    parser.add_argument("--shards", type=int, nargs="*", default=[4, 8, 16])
    parser.add_argument("--epochs", type=float, default=6.0)
    given = parser.parse_args()
    lm, persons = load(ROOT / "demo/model", device="cpu"), new_people(given.people)
    found: dict[str, Any] = {"people": len(persons), "epochs": given.epochs}
    for shards in (1, *given.shards):
        with tempfile.TemporaryDirectory() as folder:
            found[str(shards)] = measure(lm, shards, persons, given.epochs, Path(folder))
        sys.stdout.write(f"{shards} shards: {json.dumps(found[str(shards)])}\n")
        sys.stdout.flush()
    keep("shard_recall", found)
    reference = found["1"]["recall"]
    good = all(
        min(found[str(n)]["mixture"], found[str(n)]["routed"])
        >= max(0.97 * found[str(n)]["own_shard"], 0.95 * reference)
        for n in given.shards
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
