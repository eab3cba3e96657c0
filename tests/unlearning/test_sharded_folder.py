from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from language_models import RequestError
from tests.unlearning.sharded_case import (
    KEY,
    adapters,
    case_records,
    in_slice,
    trained,
)
from unlearning.destruction import destroy_obsolete
from unlearning.guarantee import guarantee
from unlearning.records import Record
from unlearning.shards import place

if TYPE_CHECKING:
    from pathlib import Path

RECORDS = case_records()


def test_the_records_of_a_subject_are_gone_from_every_file(tmp_path: Path) -> None:
    made = trained(tmp_path, RECORDS)

    made.forget(["subject-5"])
    destroy_obsolete(made, tmp_path / "record.json")

    content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"Person E" in content
    assert b"Person F" not in content
    assert b"subject-5" not in content
    assert made.obsolete() == []


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

    result = made.forget([in_slice(RECORDS, 0)])

    assert result["obsolete_files"] == len(made.obsolete()) == 2
    destroy_obsolete(made, tmp_path / "record.json")
    assert made.obsolete() == []
    assert made.adapters().keys() == {0, 1}


def test_a_shard_that_is_off_answers_nothing_until_its_subject_is_forgotten(tmp_path: Path) -> None:
    made = trained(tmp_path, RECORDS)
    first, second = in_slice(RECORDS, 0), in_slice(RECORDS, 1)
    shard = place(KEY, first, 2, 2).shard

    result = made.switch_off([first])
    assert result["switched_off"] == [shard]
    assert result["guarantee"] == guarantee("C").as_dict()
    there = {one.subject for one in RECORDS if place(KEY, one.subject, 2, 2).shard == shard}
    assert result["subjects_off"] == len(there) > 1
    assert adapters(tmp_path).adapters().keys() == {0, 1} - {shard}
    assert made.switch_off([second])["requests"] == 1
    assert made.switch_on([second])["switched_off"] == [shard]
    made.forget([first])

    assert made.manifest()["switched_off"] == []
    assert adapters(tmp_path).adapters().keys() == {0, 1}


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


def test_same_texts_of_others_are_told(tmp_path: Path) -> None:
    twin = Record("r-twin", "subject-9", RECORDS[0].text.upper())
    made = trained(tmp_path, (*RECORDS, twin))

    assert made.forget(["subject-0"])["same_texts_elsewhere"] == 1
