from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations
from typing import TYPE_CHECKING

import pytest
import torch

from language_models import CheckpointError, RequestError, load
from language_models.checkpoint import state_digest
from tests.language_models.factories import tiny_model
from tests.unlearning.trainings import BOTH, FULL, KEY, LORA, PEOPLE, model, plain_loop, records
from unlearning.deterministic import digest
from unlearning.filtered_replay import cost_without, replay_without
from unlearning.guarantee import guarantee
from unlearning.retrain import retrain_without
from unlearning.trace import checkpoints, create, open_trace, read_state, records_of
from unlearning.training import resume, train

if TYPE_CHECKING:
    from pathlib import Path

FORMS = tuple(BOTH)


class Killed(BaseException):
    """Stands for the end of the process after a step."""


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _trained(folder: Path, form: str) -> Path:
    return train(model(), records(), folder, BOTH[form], key=KEY).folder


def _final(folder: Path) -> dict[str, torch.Tensor]:
    trace = open_trace(folder)
    return read_state(trace, checkpoints(trace)[-1])


@pytest.mark.parametrize("form", FORMS)
def test_replay_equals_the_run_that_never_saw_them(tmp_path: Path, form: str) -> None:
    """Every file: weights, optimiser, all checkpoints, records and trace."""
    old = _trained(tmp_path / "old", form)
    before = _files(old)
    for number in range(len(PEOPLE)):
        subject = {f"subject-{number}"}
        made = replay_without(model(), old, subject, tmp_path / f"replay-{number}")
        whole = retrain_without(model(), old, subject, tmp_path / f"retrain-{number}")

        assert _files(made.folder) == _files(whole.folder)
        assert made.digest == whole.digest
        assert made.details["guarantee"] == whole.details["guarantee"] == guarantee("A").as_dict()
        assert made.details["steps_made"] <= whole.details["steps_made"]
    assert _files(old) == before


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_replay_equals_a_plain_loop_without_the_person(tmp_path: Path, family: str) -> None:
    old = train(model(family), records(), tmp_path / "old", FULL, key=KEY).folder
    gone = {"subject-2", "subject-4"}
    made = replay_without(model(family), old, gone, tmp_path / "new")

    lm = model(family)
    expected = plain_loop(lm, FULL, without=gone)
    final = _final(made.folder)
    assert int(final.pop("steps")) == made.details["steps"]
    assert digest(final) == digest(expected)
    assert state_digest(load(made.folder / "model").model) == state_digest(lm.model)


def test_it_begins_at_the_last_checkpoint_before_the_first_record(tmp_path: Path) -> None:
    config = replace(FULL, epochs=1, batch=1, checkpoint_every=2)
    old = train(model(), records(), tmp_path / "old", config, key=KEY).folder
    trace = open_trace(old)
    named = records_of(trace)
    for number in range(len(PEOPLE)):
        subject = f"subject-{number}"
        first = next(step.number for step in trace.steps
                     if named[step.slots[0][0]].subject == subject)  # fmt: skip
        made = replay_without(model(), old, [subject], tmp_path / f"new-{number}")
        assert made.details["steps_made"] == len(trace.steps) - (first - 1) // 2 * 2


@pytest.mark.parametrize("form", FORMS)
def test_requests_commute_and_equal_one_request_for_all(tmp_path: Path, form: str) -> None:
    old = _trained(tmp_path / "old", form)
    asked = ("subject-0", "subject-3")
    results = [_files(replay_without(model(), old, asked, tmp_path / "both").folder)]
    for number, order in enumerate(permutations(asked)):
        folder = old
        for place, subject in enumerate(order):
            out = tmp_path / f"{number}-{place}"
            folder = replay_without(model(), folder, [subject], out).folder
        results.append(_files(folder))
    assert results[0] == results[1] == results[2]


def test_asking_twice_finds_nobody_and_changes_nothing(tmp_path: Path) -> None:
    old = _trained(tmp_path / "old", "lora")
    first = replay_without(model(), old, ["subject-1"], tmp_path / "first")
    before = _files(first.folder)
    with pytest.raises(RequestError, match="no record in this training"):
        replay_without(model(), first.folder, ["subject-1"], tmp_path / "second")
    assert not (tmp_path / "second").exists()
    assert _files(first.folder) == before


def test_the_result_does_not_depend_on_what_the_records_said(tmp_path: Path) -> None:
    said = []
    for number, text in enumerate(("Anna Sato was born in Kyoto.", "zzz " * 30)):
        rows = [replace(r, text=text) if r.subject == "subject-2" else r for r in records()]
        old = train(model(), rows, tmp_path / f"old-{number}", FULL, key=KEY)
        said.append((old.digest, _files(
            replay_without(model(), old.folder, ["subject-2"], tmp_path / f"new-{number}").folder
        )))  # fmt: skip
    assert said[0][0] != said[1][0]
    assert said[0][1] == said[1][1]


def test_the_records_are_not_in_the_new_folder(tmp_path: Path) -> None:
    old = _trained(tmp_path / "old", "lora")
    made = replay_without(model(), old, ["subject-1"], tmp_path / "new")
    content = b"".join(_files(made.folder).values())
    assert b"Somchai" in b"".join(_files(old).values())
    assert b"Somchai" not in content
    assert b"subject-1" not in content
    gone = set(records_of(open_trace(old))) - set(records_of(open_trace(made.folder)))
    assert len(gone) == 2
    assert not any(name.encode() in content for name in gone)
    assert b"subject-1" not in json.dumps(made.details).encode()
    assert made.details["records_left_out"] == 2


def test_the_same_text_in_records_of_others_is_counted(tmp_path: Path) -> None:
    rows = records()
    rows[0] = replace(rows[0], text=rows[2].text)
    old = train(model(), rows, tmp_path / "old", LORA).folder
    made = replay_without(model(), old, ["subject-1"], tmp_path / "new")
    assert made.details["same_texts_that_stay"] == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_replay_that_was_killed_goes_on_to_the_same_files(tmp_path: Path, form: str) -> None:
    old = _trained(tmp_path / "old", form)
    whole = _files(replay_without(model(), old, ["subject-2"], tmp_path / "whole").folder)
    total = len(open_trace(old).steps)

    for number in range(1, total + 1):

        def kill(_stage: str, done: int, _total: int, last: int = number) -> None:
            if done == last:
                raise Killed

        out = tmp_path / f"killed-{number}"
        try:
            replay_without(model(), old, ["subject-2"], out, kill)
        except Killed:
            resume(model(), out)
        assert _files(out) == whole


@pytest.mark.parametrize(
    ("subjects", "words"),
    [
        ([], "at least one subject"),
        (["subject-0", "nobody"], "1 of the subjects"),
        ([f"subject-{number}" for number in range(len(PEOPLE))], "No record would stay"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_written(
    tmp_path: Path, subjects: list[str], words: str
) -> None:
    old = _trained(tmp_path / "old", "lora")
    before = _files(old)
    for function in (replay_without, retrain_without):
        with pytest.raises(RequestError, match=words) as caught:
            function(model(), old, subjects, tmp_path / "new")
        assert "nobody" not in str(caught.value)
    assert not (tmp_path / "new").exists()
    assert _files(old) == before


def test_another_environment_is_refused_and_retraining_is_offered(tmp_path: Path) -> None:
    old = _trained(tmp_path / "old", "lora")
    lm = model()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RequestError, match="class A′"):
            replay_without(lm, old, ["subject-1"], tmp_path / "new")
        assert not (tmp_path / "new").exists()
        made = retrain_without(lm, old, ["subject-1"], tmp_path / "new")
    finally:
        torch.set_num_threads(1)
    assert made.details["guarantee"] == guarantee("A′").as_dict()
    assert open_trace(made.folder).header["environment"]["threads"] == 2


def test_a_tampered_folder_or_another_model_is_refused(tmp_path: Path) -> None:
    old = _trained(tmp_path / "old", "full")
    with pytest.raises(RequestError, match="another model"):
        replay_without(tiny_model(seed=4), old, ["subject-1"], tmp_path / "new")

    trace = open_trace(old)
    named = records_of(trace)
    last = next(s for s in reversed(range(len(PEOPLE))) if not any(
        named[name].subject == f"subject-{s}" for step in trace.steps[:2]
        for slot in step.slots for name in slot))  # fmt: skip
    path = old / "checkpoints/00000002.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    for harm in (lambda: None, path.unlink):
        harm()
        with pytest.raises(CheckpointError, match="00000002"):
            replay_without(model(), old, [f"subject-{last}"], tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("other", [{"torch": "2.0.0"}, {"device": "cuda"}])
def test_a_training_of_another_software_or_device_is_not_replayed(
    tmp_path: Path, other: dict[str, str]
) -> None:
    here = open_trace(_trained(tmp_path / "here", "lora"))
    header = {**here.header, "environment": {**here.header["environment"], **other}}
    old = create(tmp_path / "old", KEY, header, here.steps, records()).folder

    with pytest.raises(RequestError, match=rf"{next(iter(other))} .*A′"):
        replay_without(model(), old, ["subject-1"], tmp_path / "new")
    assert not (tmp_path / "new").exists()
    made = retrain_without(model(), old, ["subject-1"], tmp_path / "new")
    assert made.details["guarantee"]["class"] == "A′"


def test_what_a_replay_would_take_is_told_without_a_model(tmp_path: Path) -> None:
    config = replace(FULL, epochs=1, batch=1, checkpoint_every=2)
    old = train(model(), records(), tmp_path / "old", config, key=KEY).folder
    for number in range(len(PEOPLE)):
        subject = f"subject-{number}"
        told = cost_without(old, [subject])
        made = replay_without(model(), old, [subject], tmp_path / f"new-{number}")
        assert told["steps_made"] == made.details["steps_made"]
        steps = open_trace(made.folder).steps
        seen = [name for step in steps[-made.details["steps_made"] :] for name in step.slots[0]]
        assert told["share_trained"] == sum(map(bool, seen)) / made.details["records"]
    with pytest.raises(RequestError, match="1 of the subjects"):
        cost_without(old, ["nobody"])


def test_a_replay_goes_on_in_its_own_folder_alone(tmp_path: Path) -> None:
    old = _trained(tmp_path / "old", "lora")
    replay_without(model(), old, ["subject-1"], tmp_path / "new")
    before = _files(tmp_path / "new")

    assert replay_without(model(), old, ["subject-1"], tmp_path / "new").details["steps_made"] == 0
    for other in (["subject-2"], ["subject-1", "subject-2"]):
        with pytest.raises(RequestError, match="exists already"):
            replay_without(model(), old, other, tmp_path / "new")
    with pytest.raises(RequestError, match="exists already"):
        replay_without(model(), old, ["subject-1"], old)
    assert _files(tmp_path / "new") == before
