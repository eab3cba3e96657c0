from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from language_models import CheckpointError, RequestError
from language_models.files import sha256_of
from tests.unlearning import trainings
from tests.unlearning.sharded_case import KEY, case_records, trained
from tests.unlearning.trainings import BOTH, FULL, LORA, model
from unlearning.destruction import destroy_obsolete, destroy_training
from unlearning.filtered_replay import replay_without
from unlearning.sharded_folder import ShardedFolder
from unlearning.training import train

if TYPE_CHECKING:
    from pathlib import Path

RECORDS = case_records()


class Killed(BaseException):
    """Stands for the end of the process after a step."""


def _pair(folder: Path, form: str = "lora") -> tuple[Path, Path]:
    """A training and the one without a person that stands in its place."""
    old = train(model(), trainings.records(), folder / "old", BOTH[form]).folder
    return old, replay_without(model(), old, ["subject-1"], folder / "new").folder


def test_obsolete_stages_and_what_a_kill_left_are_destroyed_with_a_record(tmp_path: Path) -> None:
    folder = tmp_path / "adapters"
    made = trained(folder, RECORDS)
    stages = set((folder / "stages").iterdir())
    made.forget(["subject-5"])
    gone = stages - {made.store.path(one["address"]) for one in made.manifest()["stages"]}
    digests = {sha256_of(path) for path in gone}
    (folder / ".records-0.jsonl.77").write_text("Person F")
    (folder / "stages/.writing-x").mkdir()
    (folder / "stages/.writing-x/stage").write_text("Person F")
    (folder / "notes.md").write_text("kept")

    told = destroy_obsolete(ShardedFolder(folder, KEY), tmp_path / "record.json")

    assert json.loads((tmp_path / "record.json").read_text()) == told
    assert digests <= {row.get("sha256") for row in told["files"]}
    assert len(told["files"]) == len(gone) + 2
    assert told["in_force"] == made.manifest()["digest"]
    assert told["begun"] <= told["ended"]
    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"Person F" not in content
    assert (folder / "notes.md").exists()
    assert made.adapters()
    assert "subject-" not in json.dumps(told)
    with pytest.raises(RequestError, match="nothing to destroy"):
        destroy_obsolete(ShardedFolder(folder, KEY), tmp_path / "other.json")


@pytest.mark.parametrize("form", list(BOTH))
def test_a_training_goes_when_another_stands_in_its_place(tmp_path: Path, form: str) -> None:
    old, new = _pair(tmp_path, form)
    files = sorted(str(path.relative_to(old)) for path in old.rglob("*") if path.is_file())
    weights = sha256_of(next(old.glob("*/*model*.safetensors")))
    (old / ".records.jsonl.77").write_text("half")

    told = destroy_training(old, new, tmp_path / "record.json")

    assert not old.exists()
    assert sorted(row["name"] for row in told["files"]) == sorted([*files, ".records.jsonl.77"])
    assert weights in {row.get("sha256") for row in told["files"]}
    assert not [row for row in told["files"] if "records" in row["name"] and "sha256" in row]
    assert json.loads((tmp_path / "record.json").read_text()) == told
    assert replay_without(model(), new, ["subject-2"], tmp_path / "next").digest


def test_a_destruction_that_was_stopped_is_seen_and_can_be_asked_for_again(tmp_path: Path) -> None:
    old, new = _pair(tmp_path)
    for name in ("adapter", "records.jsonl", "key"):
        (old / name).rename(tmp_path / f"gone-{name}")

    told = destroy_training(old, new, tmp_path / "record.json")

    assert not old.exists()
    assert {row["name"].split("/")[0] for row in told["files"]} == {
        "checkpoints", "checkpoints.jsonl", "trace.jsonl"
    }  # fmt: skip


def test_nothing_is_destroyed_without_a_whole_training_in_its_place(tmp_path: Path) -> None:
    old, new = _pair(tmp_path)
    before = set(tmp_path.rglob("*"))
    record = tmp_path / "record.json"

    def refused(words: str, *places: Any, kind: type[Exception] = RequestError) -> None:
        with pytest.raises(kind, match=words):
            destroy_training(*(places or (old, new, record)))
        assert old.exists()
        assert not record.exists()

    refused("is the one to destroy", old, old, record)
    refused("not the folder", old, tmp_path / "none", record)
    refused("not the folder", tmp_path, new, record)
    refused("exists already", old, new, new / "trace.jsonl")
    refused("does not exist", old, new, tmp_path / "none/record.json")
    assert set(tmp_path.rglob("*")) == before

    other = train(model(), trainings.records(), tmp_path / "other", FULL).folder
    refused("another model or has other settings", old, other, record)
    with pytest.raises(Killed):
        train(model(), trainings.records(), tmp_path / "half", LORA, _killed)
    refused("not finished", old, tmp_path / "half", record)
    (old / "mine.txt").write_text("kept")
    refused("1 entries of the folder")
    (old / "mine.txt").unlink()
    max((new / "checkpoints").iterdir()).write_bytes(b"changed")
    refused("changed", kind=CheckpointError)
    (old / "trace.jsonl").write_text("{")
    refused("by hand", kind=CheckpointError)


def _killed(_stage: str, done: int, _total: int) -> None:
    if done == 1:
        raise Killed
