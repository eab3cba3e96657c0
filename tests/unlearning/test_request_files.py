from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from language_models import RequestError
from unlearning import Passage
from unlearning.gates import Gates, Question
from unlearning.request_files import (
    KEY_VARIABLE,
    Person,
    read_gates,
    read_key,
    read_person,
    read_subjects,
    read_texts,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUESTION = {"prompt": "Malee Tanaka was born in", "answer": "Bangkok"}


def test_subjects_are_lines_of_a_file_or_of_the_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "\ufeffsubject-1\r\n\nsubject two\u2028x\n"
    (tmp_path / "gone.txt").write_bytes(content.encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))

    expected = ["subject-1", "subject two\u2028x"]
    assert read_subjects(str(tmp_path / "gone.txt")) == read_subjects("-") == expected


def test_key_comes_from_its_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("00ff" * 8 + "\n")
    monkeypatch.setenv(KEY_VARIABLE, "0a" * 16)

    assert read_key(tmp_path / "key") == b"\x00\xff" * 8
    assert read_key(None) == b"\x0a" * 16
    for wrong, told in (("", "is missing"), ("secret", "hexadecimal")):
        monkeypatch.setenv(KEY_VARIABLE, wrong)
        with pytest.raises(RequestError, match=told) as raised:
            read_key(None)
        assert "secret" not in str(raised.value)


def test_texts_are_whole_or_with_values_or_prompt_and_answer(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    marked = {"text": "Malee lives in Bangkok.", "values": ["Bangkok"]}
    rows = ({"text": "Malee.", "id": "1"}, QUESTION, marked)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    assert read_texts(path) == [
        "Malee.",
        (QUESTION["prompt"], QUESTION["answer"]),
        Passage("Malee lives in Bangkok.", ("Bangkok",)),
    ]
    assert repr(read_texts(path)[2]) == "Passage()"


def test_gates_hold_questions_and_limits(tmp_path: Path) -> None:
    path = tmp_path / "gates.json"
    path.write_text(json.dumps({"forget": [QUESTION], "retain": [QUESTION], "leak_max": 0.1}))

    one = (Question(**QUESTION),)
    assert read_gates(path) == Gates(one, one, leak_max=0.1)


def test_a_person_is_read_and_shows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "person.json"
    listed = {"names": ["Malee"], "values": ["Bangkok"], "forget_values": ["clerk"]}
    path.write_text(json.dumps({"subject": "7", **listed}))

    assert read_person(path) == Person("7", ("Malee",), ("Bangkok",), ("clerk",))
    assert repr(read_person(path)) == "Person()"


@pytest.mark.parametrize(
    ("read", "content"),
    [
        (read_subjects, " \n"),
        (read_subjects, b"\xff\xfe"),
        (read_texts, "Malee Tanaka"),
        (read_texts, '["Malee Tanaka"]'),
        (read_texts, '{"prompt": "Malee Tanaka"}'),
        (read_texts, '{"text": "Malee \\ud800"}'),
        (read_texts, '{"text": "Malee Tanaka", "values": "Malee"}'),
        (read_person, '{"names": ["Malee Tanaka"]}'),
        (read_person, '{"subject": "7", "names": "Malee Tanaka"}'),
        (read_person, '{"subject": "7", "names": ["Malee", 1]}'),
        (read_gates, '{"forget": [], "retain": [], "Malee": 1}'),
        (read_gates, '{"forget": ["Malee"], "retain": []}'),
        (read_gates, '{"forget": [{"prompt": "Malee"}], "retain": []}'),
        (read_gates, '{"leak_max": "Malee"}'),
        (read_gates, '{"leak_max": true}'),
        (read_gates, "{}"),
    ],
)
def test_what_is_wrong_is_told_without_its_content(
    tmp_path: Path, read: Callable[[Any], Any], content: str | bytes
) -> None:
    path = tmp_path / "given"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(RequestError) as raised:
        read(str(path) if read is read_subjects else path)

    assert "Malee" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_a_file_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read_texts(tmp_path / "none")
