from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from language_models import RequestError
from tests.unlearning.sharded_case import CONFIG, KEY, case_records, without
from unlearning.records import Record
from unlearning.shards import (
    Place,
    check_key,
    divided,
    passes_of_stage,
    place,
    same_texts,
    schedule,
    share_retrained,
)


def test_a_subject_has_one_place_whatever_its_records_and_the_others_are() -> None:
    records = case_records(9)
    changed = [Record(one.id, one.subject, "other words") for one in records]

    assert divided(KEY, records, 3, 2) == divided(KEY, reversed(changed), 3, 2)
    fewer = divided(KEY, without(records, "subject-4"), 3, 2)
    assert fewer == [
        [[one for one in ids if "-4-" not in one] for ids in slices]
        for slices in divided(KEY, records, 3, 2)
    ]


def test_subjects_are_spread_evenly_and_by_the_key() -> None:
    places = Counter(place(KEY, str(n), 4, 3) for n in range(6000))

    assert len(places) == 12
    assert all(400 < count < 600 for count in places.values())
    assert place(KEY, "7", 2**32, 4) != place(KEY + b"x", "7", 2**32, 4)


def test_each_pass_sees_every_record_once_in_another_order() -> None:
    ids = [f"r-{n}" for n in range(7)]

    steps = schedule(KEY, ids, Place(0, 1), 2.5, 3)

    seen = [one for step in steps for one in step]
    assert [len(step) for step in steps] == [3, 3, 3, 3, 3, 3]
    assert sorted(seen[:7]) == sorted(seen[7:14]) == ids
    assert seen[:7] != seen[7:14]
    assert schedule(KEY, ids[::-1], Place(0, 1), 2.5, 3) == steps
    assert schedule(KEY, ids, Place(1, 1), 2.5, 3) != steps


@pytest.mark.parametrize("slices", [1, 2, 4, 8])
def test_the_stages_of_a_shard_cost_its_epochs(slices: int) -> None:
    seen = sum(passes_of_stage(6, slices) * 10 * stage for stage in range(1, slices + 1))

    assert seen == pytest.approx(6 * 10 * slices)


@pytest.mark.parametrize(
    ("shards", "slices", "requests", "share"),
    [
        # shared/reference/unlearning.md, section 2.2
        (16, 4, 1, 0.047),
        (16, 4, 10, 0.374),
        (16, 4, 50, 0.871),
        (8, 1, 5, 0.487),
        (4, 8, 10, 0.815),
        (1, 4, 1, 0.75),
    ],
)
def test_share_retrained_equals_the_table(
    shards: int, slices: int, requests: int, share: float
) -> None:
    assert share_retrained(requests, shards, slices) == pytest.approx(share, abs=6e-4)


@pytest.mark.parametrize("requests", [1, 3, 12])
def test_share_retrained_equals_a_simulation(requests: int) -> None:
    rng = random.Random(requests)  # noqa: S311 -- draws of a simulation
    shards, slices, total = 4, 3, 0.0
    for _ in range(4000):
        lowest: dict[int, int] = {}
        for _ in range(requests):
            shard, drawn = rng.randrange(shards), rng.randint(1, slices)
            lowest[shard] = min(drawn, lowest.get(shard, drawn))
        total += sum(sum(range(r, slices + 1)) / 6 for r in lowest.values()) / shards

    assert share_retrained(requests, shards, slices) == pytest.approx(total / 4000, abs=0.01)


def test_a_key_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(RequestError, match="16"):
        check_key(b"short")


def test_texts_that_others_have_as_well_are_counted() -> None:
    records = [
        Record("1", "a", "Malee lives here."),
        Record("2", "b", "malee  lives here.\n"),
        Record("3", "b", "Nothing."),
        Record("4", "a", "Nothing else."),
    ]

    assert same_texts(records, {"a"}) == 1
    assert same_texts(records, {"a", "b"}) == 0


@pytest.mark.parametrize(
    "changes", [{"shards": 0}, {"slices": 0}, {"epochs": -1}, {"seed": -1}, {"learning_rate": 0}]
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        replace(CONFIG, **changes)
