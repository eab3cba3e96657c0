from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from language_models import CheckpointError, NotReached, RequestError, nll
from language_models.checkpoint import state_digest
from tests.language_models.factories import tiny_model
from tests.unlearning.sharded_case import (
    CONFIG,
    KEY,
    adapters,
    case_model,
    case_records,
    trained,
    without,
)
from unlearning.exact import ShardedAdapters
from unlearning.manifest import alone
from unlearning.records import Record
from unlearning.shards import place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RECORDS = case_records()


class Killed(Exception):
    pass


def _digest(made: ShardedAdapters) -> str:
    return str(made.manifest()["digest"])


def _at(shards: int, slices: int, number: int) -> str:
    """A subject of the case in a given slice (any shard)."""
    found = [
        one.subject for one in RECORDS if place(KEY, one.subject, shards, slices).slice == number
    ]
    return found[0]


@pytest.mark.parametrize(("shards", "slices"), [(1, 1), (2, 2), (3, 3)])
def test_forgetting_gives_the_bits_of_a_training_without_the_subject(
    tmp_path: Path, shards: int, slices: int
) -> None:
    sizes = {"shards": shards, "slices": slices}
    made = trained(tmp_path / "a", RECORDS, **sizes)
    before = _digest(made)

    result = made.forget(["subject-1"])

    reference = trained(tmp_path / "b", without(RECORDS, "subject-1"), **sizes)
    assert _digest(made) == _digest(reference) == result["after"] != result["before"] == before
    assert made.manifest()["stages"] == reference.manifest()["stages"]
    assert result["guarantee"] == "A"


def test_order_batches_and_repetition_change_nothing(tmp_path: Path) -> None:
    one_by_one = trained(tmp_path / "a", RECORDS)
    other_way, at_once = trained(tmp_path / "b", RECORDS), trained(tmp_path / "c", RECORDS)

    one_by_one.forget(["subject-0"])
    one_by_one.forget(["subject-3"])
    other_way.forget(["subject-3"])
    other_way.forget(["subject-0"])
    result = at_once.forget(["subject-0", "subject-3", "subject-0"])
    again = at_once.forget(["subject-3"])

    assert _digest(one_by_one) == _digest(other_way) == _digest(at_once)
    assert result["requests"] == 2
    assert again["stages_trained"] == again["share_trained"] == 0
    assert again["removed_before"] == 1


def test_only_the_stages_from_the_subjects_slice_on_are_made_again(tmp_path: Path) -> None:
    made = trained(tmp_path, RECORDS)
    for number in (1, 0):
        subject = _at(2, 2, number)
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
    assert _digest(first) != _digest(second)

    first.forget(["subject-2"])
    second.forget(["subject-2"])

    assert _digest(first) == _digest(second)


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

    assert _digest(resumed) == _digest(whole)
    left[0] = steps if steps < 4 else 2
    with pytest.raises(Killed):
        resumed.forget(["subject-0", "subject-1"], progress=kill)
    assert _digest(adapters(tmp_path / "b")) == _digest(whole)
    reopened = adapters(tmp_path / "b")
    reopened.forget(["subject-0", "subject-1"])
    whole.forget(["subject-0", "subject-1"])
    assert _digest(reopened) == _digest(whole)


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

    assert _digest(trained(tmp_path, RECORDS)) == _digest(made)


def test_the_records_of_a_subject_are_gone_from_every_file(tmp_path: Path) -> None:
    made = trained(tmp_path, RECORDS)

    made.forget(["subject-5"])
    made.destroy_obsolete()

    content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"Person E" in content
    assert b"Person F" not in content
    assert b"subject-5" not in content
    assert made.obsolete() == 0


def test_the_manifest_and_results_name_no_subject_and_no_text(tmp_path: Path) -> None:
    made = trained(tmp_path, RECORDS)
    made.switch_off(["subject-3"])

    told = json.dumps([made.forget(["subject-1"]), made.manifest(), made.cost(["subject-2"])])

    assert "subject-" not in told
    assert "Person" not in told
    names = [path.name for path in tmp_path.rglob("*")]
    assert not [name for name in names if "subject" in name]


def test_old_stages_stay_until_they_are_destroyed(tmp_path: Path) -> None:
    made = trained(tmp_path, RECORDS)

    result = made.forget([_at(2, 2, 0)])

    assert result["obsolete_stages"] == made.obsolete() == 2
    assert made.destroy_obsolete() == 2
    assert made.adapters().keys() == {0, 1}


def test_a_subject_who_was_removed_cannot_be_brought_back(tmp_path: Path) -> None:
    made = trained(tmp_path, RECORDS)
    made.forget(["subject-1"])
    before = made.manifest()

    with pytest.raises(RequestError, match="1 of the subjects"):
        made.train(RECORDS)

    assert adapters(tmp_path).manifest() == before
    made.train([*without(RECORDS, "subject-1"), Record("r-x", "subject-x", "Person X is new.")])
    assert made.manifest()["subjects"] == before["subjects"] + 1


def test_a_shard_that_is_off_answers_nothing_until_its_subject_is_forgotten(tmp_path: Path) -> None:
    made = trained(tmp_path, RECORDS)
    first, second = _at(2, 2, 0), _at(2, 2, 1)
    shard = place(KEY, first, 2, 2).shard

    assert made.switch_off([first]) == (shard,)
    assert adapters(tmp_path).adapters().keys() == {0, 1} - {shard}
    assert made.switch_off([second])
    assert made.switch_on([second]) == (shard,)
    made.forget([first])

    assert made.manifest()["switched_off"] == []
    assert adapters(tmp_path).adapters().keys() == {0, 1}


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


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _stage(folder: Path, made: ShardedAdapters) -> Path:
    return folder / "stages" / f"{made.manifest()['stages'][0]['address']}.safetensors"


def _swap(folder: Path, made: ShardedAdapters) -> None:
    """Put a stage that is whole and sealed in the place of another."""
    first, second = (one["address"] for one in made.manifest()["stages"][:2])
    names = [folder / "stages" / f"{one}.safetensors" for one in (first, second)]
    names[0].write_bytes(names[1].read_bytes())


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder, made: _damage(_stage(folder, made)),
        lambda folder, made: _stage(folder, made).unlink(),
        lambda folder, made: _stage(folder, made).write_bytes(b"no safetensors"),
        _swap,
        lambda folder, _: _damage(next(folder.glob("records-*"))),
    ],
)
def test_what_was_tampered_with_is_refused_and_the_version_stays(
    tmp_path: Path, harm: Callable[[Path, ShardedAdapters], None]
) -> None:
    made = trained(tmp_path, RECORDS)
    # The first stage is of the other shard, which must hold as well.
    subject = next(one.subject for one in RECORDS if place(KEY, one.subject, 2, 2).shard == 1)
    harm(tmp_path, made)
    before = (tmp_path / "manifest.json").read_bytes()

    with pytest.raises((CheckpointError, RequestError)) as raised:
        adapters(tmp_path).forget([subject])

    assert "Person" not in str(raised.value)
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_a_manifest_that_was_changed_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, RECORDS)
    path = tmp_path / "manifest.json"
    told = json.loads(path.read_text())
    told["manifest"]["removed"] = ["0" * 64]
    path.write_text(json.dumps(told))

    with pytest.raises(CheckpointError, match="manifest"):
        adapters(tmp_path)
    path.write_text("{")
    with pytest.raises(CheckpointError, match="manifest"):
        adapters(tmp_path)


def test_another_key_base_or_settings_are_refused(tmp_path: Path) -> None:
    trained(tmp_path, RECORDS)

    with pytest.raises(RequestError, match="another key"):
        ShardedAdapters(case_model(), tmp_path, KEY[::-1], CONFIG)
    with pytest.raises(RequestError, match="another base model"):
        adapters(tmp_path, tiny_model(seed=1, scale=1.0, num_hidden_layers=1))
    with pytest.raises(RequestError, match="other settings"):
        adapters(tmp_path, epochs=3)
    assert ShardedAdapters(case_model(), tmp_path, KEY).config == CONFIG


def test_a_base_that_was_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    lm = tiny_model(scale=1.0, num_hidden_layers=1)
    made = adapters(tmp_path, lm)
    made.train(RECORDS)
    made.merged().apply(lm)

    with pytest.raises(RequestError, match="changed meanwhile"):
        made.forget(["subject-1"])


def test_two_processes_do_not_change_the_adapters_at_once(tmp_path: Path) -> None:
    made = trained(tmp_path, RECORDS)
    other = adapters(tmp_path)
    made.forget(["subject-0"])

    with alone(tmp_path), pytest.raises(RequestError, match="Another process"):
        other.forget(["subject-1"])

    # What the first left is seen, though the second was opened before.
    other.forget(["subject-1"])
    made.forget(["subject-1"])
    assert _digest(made) == _digest(other)
    assert len(other.manifest()["removed"]) == 2


@pytest.mark.parametrize("subjects", [[], ["subject-1", "nobody-9"]])
def test_a_request_that_names_nobody_known_changes_nothing(
    tmp_path: Path, subjects: list[str]
) -> None:
    made = trained(tmp_path, RECORDS)
    before = made.manifest()

    for request in (made.forget, made.switch_off, made.cost):
        with pytest.raises(RequestError) as raised:
            request(subjects)
        assert "nobody" not in str(raised.value)

    assert adapters(tmp_path).manifest() == before


def test_training_on_nothing_or_on_an_id_twice_is_refused(tmp_path: Path) -> None:
    made = adapters(tmp_path / "a")

    with pytest.raises(RequestError, match="at least one"):
        made.train([])
    with pytest.raises(RequestError, match="same id"):
        made.train([RECORDS[0], RECORDS[0]])
    with pytest.raises(RequestError, match="Train first"):
        made.forget(["subject-1"])
    assert not (tmp_path / "a").exists()


def test_in_another_environment_only_the_weaker_class_is_offered(tmp_path: Path) -> None:
    made = trained(tmp_path, RECORDS)
    before = made.manifest()
    # Sums over two threads are added in another order.
    torch.set_num_threads(2)
    try:
        with pytest.raises(RequestError, match=r"threads.*A′"):
            made.forget([_at(2, 2, 1)])
        assert adapters(tmp_path).manifest() == before
        result = made.forget([_at(2, 2, 1)], exact=False)
    finally:
        torch.set_num_threads(1)

    assert result["guarantee"] == made.manifest()["guarantee"] == "A′"
    assert result["stages_trained"] == 1


def test_training_that_breaks_down_leaves_everything_as_it_was(tmp_path: Path) -> None:
    lm = case_model()
    before = state_digest(lm.model)

    with pytest.raises(NotReached):
        trained(tmp_path, RECORDS, learning_rate=1e30, epochs=20)

    assert state_digest(lm.model) == before
    assert not (tmp_path / "manifest.json").exists()


def test_the_base_model_is_never_touched(tmp_path: Path) -> None:
    lm = case_model()
    before = state_digest(lm.model), [one.requires_grad for one in lm.model.parameters()]

    trained(tmp_path, RECORDS).forget(["subject-1"])

    assert (state_digest(lm.model), [one.requires_grad for one in lm.model.parameters()]) == before
    assert not [one for one in lm.model.modules() if one._forward_hooks]


def test_same_texts_of_others_are_told(tmp_path: Path) -> None:
    twin = Record("r-twin", "subject-9", RECORDS[0].text.upper())
    made = trained(tmp_path, (*RECORDS, twin))

    assert made.forget(["subject-0"])["same_texts_elsewhere"] == 1
