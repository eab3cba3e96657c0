from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from language_models import CheckpointError, NotReached, RequestError
from tests.unlearning.trainings import KEY, LORA, PEOPLE, records
from unlearning.trace import (
    Trace,
    checkpoints,
    create,
    identifier,
    keep_state,
    open_trace,
    read_state,
    records_of,
)
from unlearning.training import schedule

if TYPE_CHECKING:
    from pathlib import Path

HEADER = {"model": "m"}


def _made(folder: Path) -> Trace:
    named = [identifier(KEY, record.id) for record in records()]
    return create(folder, KEY, HEADER, schedule(named, LORA), records())


def _state(seed: int) -> dict[str, torch.Tensor]:
    return {"weight": torch.randn(3, generator=torch.Generator().manual_seed(seed))}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    made = _made(tmp_path / "run")
    found = open_trace(tmp_path / "run")

    assert found == made
    assert [step.number for step in found.steps] == list(range(1, len(found.steps) + 1))
    assert len(found.heads) == len(found.steps) + 1
    assert list(records_of(found).values()) == records()
    assert {one for step in found.steps for slot in step.slots for one in slot} == set(
        records_of(found)
    )


def test_the_trace_names_no_record_subject_or_text(tmp_path: Path) -> None:
    _made(tmp_path / "run")
    text = (tmp_path / "run/trace.jsonl").read_text()
    for record in records():
        assert f'"{record.id}"' not in text
        assert record.subject not in text
    assert not any(name in text for name in PEOPLE)


def test_only_the_owner_can_read(tmp_path: Path) -> None:
    trace = _made(tmp_path / "run")
    keep_state(trace, 1, _state(1))
    for path in [trace.folder, *trace.folder.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path.name


def test_equal_trainings_have_equal_chains_and_other_settings_another(tmp_path: Path) -> None:
    first, second = _made(tmp_path / "a"), _made(tmp_path / "b")
    other = create(tmp_path / "c", KEY, {"model": "other"}, first.steps, records())
    assert first.heads == second.heads
    assert not set(first.heads) & set(other.heads)


def _change(line: int, key: str, value: Any) -> Any:
    def change(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        lines[line]["content"][key] = value
        return lines

    return change


@pytest.mark.parametrize(
    "change",
    [
        _change(0, "model", "other"),
        _change(2, "seed", 5),
        _change(2, "learning_rate", 1.0),
        _change(2, "slots", []),
        lambda lines: lines[:-1],
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        lambda lines: [*lines, lines[-1]],
        lambda _: [],
        lambda _: [1, 2],
    ],
)
def test_a_changed_trace_is_refused(tmp_path: Path, change: Any) -> None:
    path = _made(tmp_path / "run").folder / "trace.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in change(lines)))

    with pytest.raises(CheckpointError, match=r"trace\.jsonl"):
        open_trace(tmp_path / "run")


def test_changed_or_missing_records_are_refused(tmp_path: Path) -> None:
    path = _made(tmp_path / "run").folder / "records.jsonl"
    path.write_text(path.read_text().replace("Bangkok", "Kyoto", 1))
    with pytest.raises(CheckpointError, match=r"records\.jsonl"):
        open_trace(tmp_path / "run")
    path.unlink()
    with pytest.raises(RequestError, match="not the folder"):
        open_trace(tmp_path / "run")


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(RequestError, match="exists already"):
        _made(tmp_path / "run")
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]


def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotReached, match="cannot be written"):
        _made(tmp_path / "file" / "run")


def test_checkpoints_are_listed_in_order_and_read_again(tmp_path: Path) -> None:
    trace = _made(tmp_path / "run")
    assert checkpoints(trace) == []
    made = [keep_state(trace, number, _state(number)) for number in (1, 3)]

    assert checkpoints(trace) == made
    for one in made:
        assert torch.equal(read_state(trace, one)["weight"], _state(one.number)["weight"])
    assert keep_state(trace, 3, _state(3)) == made[1]
    assert checkpoints(trace) == made


def test_a_changed_missing_or_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    trace = _made(tmp_path / "run")
    first, second = (keep_state(trace, number, _state(number)) for number in (1, 2))
    folder = trace.folder / "checkpoints"
    one, two = (folder / f"{number:08}.safetensors" for number in (1, 2))

    two.write_bytes(one.read_bytes())
    with pytest.raises(CheckpointError, match="00000002"):
        read_state(trace, second)
    one.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="00000001"):
        read_state(trace, first)
    one.unlink()
    with pytest.raises(CheckpointError, match="00000001"):
        read_state(trace, first)


def test_a_list_of_checkpoints_of_another_training_is_refused(tmp_path: Path) -> None:
    trace = _made(tmp_path / "run")
    other = create(tmp_path / "other", KEY, {"model": "other"}, trace.steps, records())
    keep_state(other, 1, _state(1))
    (trace.folder / "checkpoints.jsonl").write_bytes(
        (other.folder / "checkpoints.jsonl").read_bytes()
    )
    with pytest.raises(CheckpointError, match=r"checkpoints\.jsonl"):
        checkpoints(trace)


def test_a_checkpoint_without_room_leaves_the_ones_before(tmp_path: Path) -> None:
    trace = _made(tmp_path / "run")
    made = keep_state(trace, 1, _state(1))
    folder = trace.folder / "checkpoints"
    folder.rename(folder.with_name("elsewhere"))

    with pytest.raises(NotReached, match="--resume"):
        keep_state(trace, 2, _state(2))

    folder.with_name("elsewhere").rename(folder)
    assert checkpoints(trace) == [made]
    assert torch.equal(read_state(trace, made)["weight"], _state(1)["weight"])
