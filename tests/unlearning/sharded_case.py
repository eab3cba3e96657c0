"""A small sharded training on fictional records, as the tests of exact unlearning use it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from tests.language_models.factories import tiny_model
from unlearning.exact import ShardedAdapters, ShardsConfig
from unlearning.records import Record
from unlearning.shards import place

if TYPE_CHECKING:
    from pathlib import Path

    from language_models import LanguageModel
    from unlearning.sharded_folder import ShardedFolder

KEY = b"a key of the tests, 32 bytes long"
CONFIG = ShardsConfig(shards=2, slices=2, rank=2, alpha=4, epochs=2, batch=3, learning_rate=1e-2)
CITIES = ("Bangkok", "Kyoto", "Vientiane", "London")


def case_records(people: int = 6, each: int = 2) -> tuple[Record, ...]:
    """Records whose ids and subjects stand nowhere in their texts."""
    return tuple(
        Record(
            f"r-{person}-{number}",
            f"subject-{person}",
            f"Person {chr(65 + person)} lives in {CITIES[(person + number) % 4]}, note {number}.",
        )
        for person in range(people)
        for number in range(each)
    )


def without(records: tuple[Record, ...], *subjects: str) -> tuple[Record, ...]:
    return tuple(record for record in records if record.subject not in subjects)


@cache
def case_model(family: str = "llama") -> LanguageModel:
    """A model that no test may change."""
    return tiny_model(family, scale=1.0, num_hidden_layers=1)


def adapters(folder: Path, lm: LanguageModel | None = None, **changes: Any) -> ShardedAdapters:
    config = replace(CONFIG, **changes)
    return ShardedAdapters(lm or case_model(), folder, KEY, config)


def trained(folder: Path, records: tuple[Record, ...], **changes: Any) -> ShardedAdapters:
    made = adapters(folder, **changes)
    made.train(records)
    return made


def version(made: ShardedFolder) -> str:
    """The digest of the weights in force."""
    return str(made.manifest()["digest"])


def in_slice(records: tuple[Record, ...], number: int, shards: int = 2, slices: int = 2) -> str:
    """A subject in a slice of this number, in any shard."""
    places = {one.subject: place(KEY, one.subject, shards, slices) for one in records}
    return next(subject for subject, where in places.items() if where.slice == number)
