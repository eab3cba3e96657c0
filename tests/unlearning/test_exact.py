from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from language_models import RequestError, nll
from language_models.checkpoint import state_digest
from tests.unlearning.sharded_case import (
    KEY,
    adapters,
    case_model,
    case_records,
    in_slice,
    trained,
    version,
    without,
)
from unlearning.guarantee import guarantee
from unlearning.records import Record
from unlearning.shards import place

if TYPE_CHECKING:
    from pathlib import Path

RECORDS = case_records()


class Killed(Exception):
    pass


@pytest.mark.parametrize(("shards", "slices"), [(1, 1), (2, 2), (3, 3)])
def test_forgetting_gives_the_bits_of_a_training_without_the_subject(
    tmp_path: Path, shards: int, slices: int
) -> None:
    sizes = {"shards": shards, "slices": slices}
    made = trained(tmp_path / "a", RECORDS, **sizes)
    before = version(made)

    result = made.forget(["subject-1"])

    reference = trained(tmp_path / "b", without(RECORDS, "subject-1"), **sizes)
    assert version(made) == version(reference) == result["after"] != result["before"] == before
    assert made.manifest()["stages"] == reference.manifest()["stages"]
    assert result["guarantee"] == guarantee("A").as_dict()


def test_order_batches_and_repetition_change_nothing(tmp_path: Path) -> None:
    one_by_one = trained(tmp_path / "a", RECORDS)
    other_way, at_once = trained(tmp_path / "b", RECORDS), trained(tmp_path / "c", RECORDS)

    one_by_one.forget(["subject-0"])
    one_by_one.forget(["subject-3"])
    other_way.forget(["subject-3"])
    other_way.forget(["subject-0"])
    result = at_once.forget(["subject-0", "subject-3", "subject-0"])
    again = at_once.forget(["subject-3"])

    assert version(one_by_one) == version(other_way) == version(at_once)
    assert result["requests"] == 2
    assert again["stages_trained"] == again["share_trained"] == 0
    assert again["removed_before"] == 1


def test_only_the_stages_from_the_subjects_slice_on_are_made_again(tmp_path: Path) -> None:
    made = trained(tmp_path, RECORDS)
    for number in (1, 0):
        subject = in_slice(RECORDS, number)
        where = place(KEY, subject, 2, 2)
        before = {(one["shard"], one["slice"]): one for one in made.manifest()["stages"]}
        planned = made.cost([subject])

        result = made.forget([subject])

        after = {(one["shard"], one["slice"]): one for one in made.manifest()["stages"]}
        changed = {at for at in before if after.get(at) != before[at]}
        assert changed == {(where.shard, n) for n in range(where.slice, 2)}
        assert result["stages_trained"] == planned["stages_trained"] == 2 - where.slice
        assert result["share_trained"] == planned["share_trained"] > 0


def test_what_the_subjects_texts_said_leaves_no_trace(tmp_path: Path) -> None:
    other = tuple(
        replace(one, text=f"Something else {number}.") if one.subject == "subject-2" else one
        for number, one in enumerate(RECORDS)
    )
    first, second = trained(tmp_path / "a", RECORDS), trained(tmp_path / "b", other)
    assert version(first) != version(second)

    first.forget(["subject-2"])
    second.forget(["subject-2"])

    assert version(first) == version(second)


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_a_training_that_was_killed_ends_in_the_same_bits(tmp_path: Path, steps: int) -> None:
    whole = trained(tmp_path / "a", RECORDS)
    left = [steps]

    def kill(stage: str, _done: int, _total: int) -> None:
        left[0] -= stage == "steps"
        if left[0] == 0:
            raise Killed

    with pytest.raises(Killed):
        adapters(tmp_path / "b").train(RECORDS, progress=kill)
    with pytest.raises(RequestError, match="Train first"):
        adapters(tmp_path / "b").manifest()
    resumed = trained(tmp_path / "b", RECORDS)

    assert version(resumed) == version(whole)
    left[0] = steps if steps < 4 else 2
    with pytest.raises(Killed):
        resumed.forget(["subject-0", "subject-1"], progress=kill)
    assert version(adapters(tmp_path / "b")) == version(whole)
    reopened = adapters(tmp_path / "b")
    reopened.forget(["subject-0", "subject-1"])
    whole.forget(["subject-0", "subject-1"])
    assert version(reopened) == version(whole)


def test_stages_of_a_killed_training_are_not_trained_twice(tmp_path: Path) -> None:
    made = trained(tmp_path, RECORDS)
    (tmp_path / "manifest.json").unlink()
    seen: list[str] = []

    adapters(tmp_path).train(RECORDS, progress=lambda stage, _done, _total: seen.append(stage))

    assert seen == ["stages"] * len(made.manifest()["stages"])


def test_a_damaged_stage_of_a_killed_training_is_trained_again(tmp_path: Path) -> None:
    made = trained(tmp_path, RECORDS)
    (tmp_path / "manifest.json").unlink()
    next((tmp_path / "stages").iterdir()).write_bytes(b"half")

    assert version(trained(tmp_path, RECORDS)) == version(made)


def test_a_subject_who_was_removed_cannot_be_brought_back(tmp_path: Path) -> None:
    made = trained(tmp_path, RECORDS)
    made.forget(["subject-1"])
    before = made.manifest()

    with pytest.raises(RequestError, match="1 of the subjects"):
        made.train(RECORDS)

    assert adapters(tmp_path).manifest() == before
    made.train([*without(RECORDS, "subject-1"), Record("r-x", "subject-x", "Person X is new.")])
    assert made.manifest()["subjects"] == before["subjects"] + 1


def test_when_all_are_forgotten_the_base_is_left(tmp_path: Path) -> None:
    made = trained(tmp_path, RECORDS)

    result = made.forget({one.subject for one in RECORDS})

    assert result["stages_in_force"] == 0
    assert adapters(tmp_path).manifest()["stages"] == []
    texts = [RECORDS[0].text]
    assert torch.allclose(nll(made.mixture(), texts), nll(case_model(), texts), rtol=1e-5)
    with pytest.raises(RequestError, match="No adapter"):
        made.merged()
    assert made.forget(["subject-1"])["removed_before"] == 1


def test_the_base_model_is_never_touched(tmp_path: Path) -> None:
    lm = case_model()
    before = state_digest(lm.model), [one.requires_grad for one in lm.model.parameters()]

    trained(tmp_path, RECORDS).forget(["subject-1"])

    assert (state_digest(lm.model), [one.requires_grad for one in lm.model.parameters()]) == before
    assert not [one for one in lm.model.modules() if one._forward_hooks]
