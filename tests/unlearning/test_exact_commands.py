"""The commands as a steward types them, on tiny models."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from language_models import save
from tests.unlearning import trainings
from tests.unlearning.sharded_case import KEY, case_model, case_records, trained, version, without
from tests.unlearning.trainings import BOTH, model
from unlearning.__main__ import main
from unlearning.guarantee import guarantee
from unlearning.training import train

if TYPE_CHECKING:
    from pathlib import Path

RECORDS = case_records()


class Steward:
    """Types commands about one folder and reads what they print."""

    def __init__(self, place: Path, capsys: pytest.CaptureFixture[str], *more: str) -> None:
        self.place, self.capsys, self.more = place, capsys, more
        self.told = ""
        (place / "gone.txt").write_text("subject-1\n")

    def __call__(self, command: str, *arguments: object, model: bool = False) -> dict[str, Any]:
        """Run a command that works and return what it printed, which names nobody."""
        assert self.status(command, *arguments, model=model) == 0, self.told
        found: dict[str, Any] = json.loads(self.printed)
        assert "subject-" not in self.printed + self.told
        assert "Person" not in self.printed + self.told
        return found

    def status(self, command: str, *arguments: object, model: bool = False) -> int:
        given = [str(one) for one in (*self.more, *arguments)]
        base = ["--model", str(self.place / "base"), "--device", "cpu"] if model else []
        done = main([command, *given, *base])
        self.printed, self.told = self.capsys.readouterr()
        return done

    def refused(self, words: str, command: str, *arguments: object, model: bool = False) -> None:
        assert self.status(command, *arguments, model=model) == 1
        assert words in " ".join(self.told.split())
        assert self.printed == ""

    @property
    def gone(self) -> tuple[str, str]:
        return ("--subjects", str(self.place / "gone.txt"))


@pytest.fixture
def shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Steward:
    save(case_model(), tmp_path / "base")
    trained(tmp_path / "adapters", RECORDS)
    (tmp_path / "key").write_text(KEY.hex())
    folder, key = str(tmp_path / "adapters"), str(tmp_path / "key")
    return Steward(tmp_path, capsys, "--folder", folder, "--key", key)


@pytest.fixture(params=list(BOTH))
def traced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> Steward:
    save(model(), tmp_path / "base")
    config = replace(BOTH[request.param], checkpoint_every=1)
    train(model(), trainings.records(), tmp_path / "run", config)
    return Steward(tmp_path, capsys, "--folder", str(tmp_path / "run"))


def test_people_are_taken_out_of_shards_and_old_stages_destroyed(
    shards: Steward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = shards("cost", *shards.gone, model=True)
    off = shards("switch-off", *shards.gone)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"subject-1")))
    on = shards("switch-on", "--subjects", "-")
    result = shards("forget", *shards.gone, model=True)

    assert "destroy" in shards.told
    assert off["guarantee"] == guarantee("C").as_dict()
    assert (len(off["switched_off"]), on["switched_off"]) == (1, [])
    assert result["guarantee"] == guarantee("A").as_dict()
    assert result["stages_trained"] == planned["stages_trained"]
    reference = trained(tmp_path / "reference", without(RECORDS, "subject-1"))
    assert result["after"] == version(reference)
    assert shards("status")["obsolete_files"] == result["obsolete_files"] > 0
    record = tmp_path / "record.json"
    shards.refused("--confirm", "destroy", "--record", record)
    assert len(shards("destroy", "--record", record, "--confirm")["files"]) > 0
    told = shards("status")
    assert (told["obsolete_files"], told["class"], told["removed"]) == (0, "A", 1)
    assert told["digest"] == result["after"]
    out = shards("export", "--out", tmp_path / "peft", model=True)
    assert [one.name for one in sorted((tmp_path / "peft").iterdir())] == out["folders"]


def test_another_environment_offers_the_weaker_class_by_an_option(shards: Steward) -> None:
    torch.set_num_threads(2)
    try:
        shards.refused("threads 1, now 2", "forget", *shards.gone, model=True)
        assert "--in-distribution" in shards.told
        result = shards("forget", *shards.gone, "--in-distribution", model=True)
    finally:
        torch.set_num_threads(1)
    assert result["guarantee"] == guarantee("A′").as_dict()


def test_people_are_taken_out_of_a_traced_training_which_is_then_destroyed(
    traced: Steward, tmp_path: Path
) -> None:
    new, record = tmp_path / "new", tmp_path / "record.json"
    before = traced("status")
    planned = traced("cost", *traced.gone)
    result = traced("forget", *traced.gone, "--out", new, model=True)
    whole = traced("forget", *traced.gone, "--out", tmp_path / "whole", "--retrain", model=True)

    assert result["guarantee"] == whole["guarantee"] == guarantee("A").as_dict()
    assert result["steps_made"] == planned["steps_made"]
    assert (result["before"], result["after"]) == (before["digest"], whole["after"])
    assert (result["method"], whole["method"]) == ("filtered replay", "full retrain")
    told = traced("destroy", "--replaced-by", new, "--record", record, "--confirm")
    assert told["in_force"] == result["after"]
    assert json.loads(record.read_text()) == told
    assert not (tmp_path / "run").exists()


def test_a_traced_training_of_another_environment_is_made_again_by_an_option(
    traced: Steward, tmp_path: Path
) -> None:
    asked = (*traced.gone, "--out", tmp_path / "new")
    torch.set_num_threads(2)
    try:
        traced.refused("threads 1, now 2", "forget", *asked, model=True)
        traced.refused("threads 1, now 2", "forget", *asked, "--retrain", model=True)
        assert not (tmp_path / "new").exists()
        result = traced("forget", *asked, "--in-distribution", model=True)
    finally:
        torch.set_num_threads(1)
    assert result["guarantee"] == guarantee("A′").as_dict()


def test_what_does_not_fit_the_form_is_refused(shards: Steward, tmp_path: Path) -> None:
    before = (tmp_path / "adapters/manifest.json").read_bytes()
    (tmp_path / "nobody.txt").write_text("nobody\n")

    nobody = ("--subjects", tmp_path / "nobody.txt")
    for command in ("forget", "cost"):
        shards.refused("1 of 1 subjects were never", command, *nobody, model=True)
    shards.refused("1 of 1 subjects were never", "switch-off", *nobody)
    shards.refused("tokenizer is needed", "cost", *shards.gone)
    shards.refused("changed in place", "forget", *shards.gone, "--out", "x", model=True)
    record = ("--record", tmp_path / "record.json", "--confirm")
    shards.refused("keep their folder", "destroy", *record, "--replaced-by", tmp_path)
    shards.refused("nothing to destroy", "destroy", *record)
    shards.refused("Write one id a line", "forget",
                   "--subjects", "/dev/null", model=True)  # fmt: skip
    (tmp_path / "key").write_text("00" * 32)
    shards.refused("another key", "status")

    assert (tmp_path / "adapters/manifest.json").read_bytes() == before


def test_a_traced_training_is_not_switched_off_nor_destroyed_alone(
    traced: Steward, tmp_path: Path
) -> None:
    traced.refused("out of service", "switch-off", *traced.gone)
    traced.refused("Give a new folder with --out", "forget", *traced.gone, model=True)
    record = ("--record", tmp_path / "record.json", "--confirm")
    traced.refused("--replaced-by", "destroy", *record)
    (tmp_path / "run/checkpoints/00000001.safetensors").write_bytes(b"changed")
    traced.refused("00000001", "status")
    (tmp_path / "run/trace.jsonl").unlink()
    traced.refused("no folder that train", "status")
