from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from language_models.errors import RequestError
from search import correct_subject, count_holding, find_subject, remove_subject


def line(number: int, subject: str | None, text: str, **more: object) -> bytes:
    record = {"id": f"n-{number}", "subject": subject, "kind": "note", "text": text, **more}
    return (json.dumps(record, ensure_ascii=False) + "\n").encode()


LINES = [
    line(1, "c-1", "Malee Tanaka was born in Vang Thong."),
    line(2, "c-2", "A friend of MALEE  TANAKA's called."),
    line(3, "c-3", "Maleeta Tanakawa is somebody else."),
    line(4, None, "ที่อยู่ของมาลี ทานากะคือ"),
    line(5, "c-1", "Nothing by name.", facts={"birth_city": "Vang Thong"}),
]
IDENTIFIERS = {"name": "Malee Tanaka", "native name": "มาลี ทานากะ", "e-mail": ""}


def test_find_own_records_and_mentions_by_whole_words_in_any_script() -> None:
    found = find_subject(LINES, subject="c-1", identifiers=IDENTIFIERS)
    assert found.records == 5
    assert {match.record: match.found for match in found.matches} == {
        "n-1": ("name", "subject id"),
        "n-2": ("name",),
        "n-4": ("native name",),
        "n-5": ("subject id",),
    }
    assert found.searched == ("subject id", "name", "native name")


def test_find_reads_escaped_and_decomposed_text() -> None:
    name = "José Müller"
    escaped = json.dumps({"id": "n-1", "subject": None, "kind": "note", "text": name}).encode()
    decomposed = line(2, None, unicodedata.normalize("NFD", name))
    found = find_subject([escaped, decomposed], subject=None, identifiers={"name": name})
    assert len(found.matches) == 2


def test_find_without_anything_to_look_for_is_refused() -> None:
    with pytest.raises(RequestError, match="Give a subject id"):
        find_subject(LINES, subject=None, identifiers={"name": "  "})


def test_remove_keeps_every_other_line_byte_for_byte() -> None:
    new = remove_subject(LINES, "c-1")
    assert (new.lines, new.removed) == (tuple(LINES[1:4]), 2)


def test_correct_changes_only_the_subjects_rows_also_in_nested_fields() -> None:
    other = line(6, "c-2", "Born in Vang Thong as well.")
    new = correct_subject([*LINES, other], "c-1", "Vang Thong", "Sakawa")
    assert new.corrected == 2
    assert new.lines[1:4] == tuple(LINES[1:4])
    assert new.lines[5] == other
    assert json.loads(new.lines[4])["facts"] == {"birth_city": "Sakawa"}
    assert count_holding(new.lines, "c-1", "Vang Thong") == 0
    assert count_holding(new.lines, "c-1", "Sakawa") == 2


@pytest.mark.parametrize(("old", "new"), [("", "x"), ("x", " "), ("Sakawa", "SAKAWA")])
def test_correct_needs_two_values_that_differ(old: str, new: str) -> None:
    with pytest.raises(RequestError, match="that differ"):
        correct_subject(LINES, "c-1", old, new)


@pytest.mark.parametrize("bad", [b"no json\n", b"[]\n", b'{"subject": "c-1"}\n', b"\xff\n"])
def test_bad_line_is_named_by_its_number_without_its_text(bad: bytes) -> None:
    with pytest.raises(RequestError, match="Line 2") as caught:
        remove_subject([LINES[0], bad], "c-1")
    assert caught.value.__cause__ is None


@given(st.lists(st.sampled_from(["c-1", "c-2", None]), max_size=20))
def test_removed_and_kept_add_up(subjects: list[str | None]) -> None:
    lines = [line(number, subject, "text") for number, subject in enumerate(subjects)]
    new = remove_subject(lines, "c-1")
    assert new.removed + len(new.lines) == len(lines)
    assert find_subject(new.lines, subject="c-1", identifiers={}).matches == ()
