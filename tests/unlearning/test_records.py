from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest

from language_models import RequestError
from tests.language_models.factories import tiny_model
from unlearning.records import Record, read_records, tokens, write_records

if TYPE_CHECKING:
    from pathlib import Path

RECORDS = (Record("r-1", "c-1", "Malee lives in\nBangkok."), Record("r-2", "c-1", "สวัสดี\u2028ครับ"))


def _line(**changes: object) -> str:
    return json.dumps({"id": "r-1", "subject": "c-1", "text": "Malee", **changes})


def test_records_are_read_as_they_were_written_for_their_owner_alone(tmp_path: Path) -> None:
    write_records(tmp_path / "records.jsonl", RECORDS)

    assert read_records(tmp_path / "records.jsonl") == RECORDS
    assert stat.S_IMODE((tmp_path / "records.jsonl").stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["records.jsonl"]


def test_further_keys_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "r").write_text(_line(kind="note") + "\n")

    assert read_records(tmp_path / "r") == (Record("r-1", "c-1", "Malee"),)


@pytest.mark.parametrize(
    "line",
    [
        "Malee",
        '["Malee"]',
        _line(text=""),
        _line(text=" "),
        _line(subject=None),
        _line(subject=7),
        _line(id=""),
        _line(subject="\ud800"),
        "[" * 100_000,
        '{"id": "r-9", "text": "Malee"}',
        "",
    ],
)
def test_a_line_that_is_no_record_is_named_by_its_number_alone(tmp_path: Path, line: str) -> None:
    (tmp_path / "r").write_text(f"{_line(id='r-0')}\n{line}\n{_line()}\n")

    with pytest.raises(RequestError, match="Line 2") as raised:
        read_records(tmp_path / "r")

    assert "Malee" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_an_id_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r").write_text(f"{_line()}\n{_line()}\n")

    with pytest.raises(RequestError, match="Line 2"):
        read_records(tmp_path / "r")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\n"])
def test_a_file_without_records_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r").write_bytes(content)

    with pytest.raises(RequestError):
        read_records(tmp_path / "r")
    with pytest.raises(RequestError, match="path"):
        read_records(tmp_path / "none")


def test_tokens_end_with_the_models_mark_and_are_cut() -> None:
    lm = tiny_model()

    whole = tokens(lm, "Malee", 100)

    assert whole[-1] == 2
    assert tokens(lm, "Malee", 3) == whole[:3]
    with pytest.raises(RequestError):
        tokens(lm, "Malee", 1)
