from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from language_models import CheckpointError, NotReached, RequestError
from language_models.checkpoint import state_digest
from tests.language_models.factories import tiny_model
from tests.unlearning.sharded_case import (
    CONFIG,
    KEY,
    adapters,
    case_model,
    case_records,
    in_slice,
    trained,
    version,
)
from unlearning.exact import ShardedAdapters
from unlearning.guarantee import guarantee
from unlearning.manifest import alone, read_manifest, write_manifest
from unlearning.shards import place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RECORDS = case_records()


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
    assert version(made) == version(other)
    assert len(other.manifest()["removed"]) == 2


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
            made.forget([in_slice(RECORDS, 1)])
        assert adapters(tmp_path).manifest() == before
        result = made.forget([in_slice(RECORDS, 1)], exact=False)
    finally:
        torch.set_num_threads(1)

    assert result["guarantee"] == guarantee("A′").as_dict()
    assert made.manifest()["guarantee"] == "A′"
    assert result["stages_trained"] == 1


@pytest.mark.parametrize("other", [{"torch": "2.0.0"}, {"device": "cuda"}, {"name": "a chip"}])
def test_adapters_of_another_software_or_device_are_not_gone_on_with_bit_for_bit(
    tmp_path: Path, other: dict[str, str]
) -> None:
    made = trained(tmp_path, RECORDS)
    manifest = read_manifest(tmp_path, KEY)
    assert manifest is not None
    there = replace(manifest, environment={**manifest.environment, **other})
    write_manifest(tmp_path, KEY, there)

    with pytest.raises(RequestError, match=rf"{next(iter(other))} .*A′"):
        made.forget(["subject-1"])

    assert read_manifest(tmp_path, KEY) == there
    assert made.forget(["subject-1"], exact=False)["requests"] == 1


def test_training_that_breaks_down_leaves_everything_as_it_was(tmp_path: Path) -> None:
    lm = case_model()
    before = state_digest(lm.model)

    with pytest.raises(NotReached):
        trained(tmp_path, RECORDS, learning_rate=1e30, epochs=20)

    assert state_digest(lm.model) == before
    assert not (tmp_path / "manifest.json").exists()
