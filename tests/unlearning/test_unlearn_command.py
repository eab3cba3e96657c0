"""The approximate command as a steward types it, on a tiny model that has learnt six people."""

from __future__ import annotations

import json
import resource
from typing import TYPE_CHECKING, Any

import pytest

from language_models import load, save
from language_models.checkpoint import state_digest
from language_models.delta import WeightDelta
from tests.unlearning.learnt import FORGET, GENERAL, PEOPLE, RETAIN, learnt_model, questions, texts
from unlearning import METHODS
from unlearning.__main__ import main
from unlearning.guarantee import guarantee

if TYPE_CHECKING:
    from pathlib import Path

NAME = "Malee Tanaka"
QUICK = ("--set", "npo.steps=3")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a model and all files that the command takes."""
    save(learnt_model(), tmp_path / "base")
    (tmp_path / "forget.jsonl").write_text(_lines({"text": one} for one in FORGET))
    (tmp_path / "retain.jsonl").write_text(_lines({"text": one} for one in RETAIN))
    records = [
        {"id": f"{number}-{at}", "subject": str(number), "text": text}
        for number, name in enumerate(PEOPLE)
        for at, text in enumerate(texts(name))
    ]
    records.append({"id": "copy", "subject": "5", "text": FORGET[1].replace(NAME, "She")})
    (tmp_path / "records.jsonl").write_text(_lines(records))
    (tmp_path / "person.json").write_text(json.dumps({"subject": "0", "names": [NAME]}))
    asked = {"forget": [NAME], "retain": list(PEOPLE)[1:]}
    gates: dict[str, Any] = {
        group: [{"prompt": one.prompt, "answer": one.answer}
                for name in names for one in questions(name)]
        for group, names in asked.items()
    }  # fmt: skip
    gates["general"] = [{"prompt": GENERAL[0], "answer": GENERAL[1]}]
    limits = {"leak_max": 0.1, "retain_drop": 0.9, "general_drop": 0.9}
    (tmp_path / "gates.json").write_text(json.dumps(gates | limits))
    return tmp_path


def _lines(rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _run(place: Path, *more: object, drawn: bool = False) -> int:
    files = {"--records": "records.jsonl", "--person": "person.json"} if drawn else {
        "--forget": "forget.jsonl", "--retain": "retain.jsonl"
    }  # fmt: skip
    given = [part for option, name in files.items() for part in (option, str(place / name))]
    base = ["--model", str(place / "base"), "--out", str(place / "new"), "--device", "cpu"]
    return main(["unlearn", *base, *given, *map(str, more)])


def test_a_changed_model_is_saved_with_its_evidence(place: Path, capsys: Any) -> None:
    assert _run(place, *QUICK, "--delta", place / "delta") == 0

    told = capsys.readouterr()
    result = json.loads(told.out)
    assert not any(name in told.out + told.err for name in PEOPLE)
    assert result["guarantee"] == guarantee("B").as_dict()
    assert result["config"]["steps"] == result["steps"] == 3
    assert result["first_losses"] != result["last_losses"]
    lm = load(place / "new", device="cpu")
    assert lm.checkpoint is not None
    assert lm.checkpoint.digest == result["saved"]
    assert "Encrypt it" in told.err
    assert (place / "delta").stat().st_mode & 0o077 == 0
    before = state_digest(load(place / "base", device="cpu").model)
    assert WeightDelta.load(place / "delta").revert(lm) == before


def test_the_texts_are_drawn_from_records_and_copies_of_them_are_found(
    place: Path, capsys: Any
) -> None:
    assert _run(place, *QUICK, drawn=True) == 0

    told = capsys.readouterr()
    result = json.loads(told.out)
    assert "1 records of others repeat a text" in told.err
    copied = (place / "records.jsonl").read_text().splitlines()
    assert result["lines_of_others_that_repeat_a_text"] == [len(copied)]
    assert result["forget_texts"] == 3
    assert not any(name in told.out + told.err for name in PEOPLE)


def test_values_alone_are_unlearnt_where_they_are_given(place: Path, capsys: Any) -> None:
    person = {"subject": "0", "names": [NAME], "forget_values": ["Bangkok"]}
    (place / "person.json").write_text(json.dumps(person))

    assert _run(place, *QUICK, drawn=True) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["forget_texts"] == 1
    assert result["texts_without_the_values"] == 2

    (place / "person.json").write_text(json.dumps({**person, "forget_values": ["Bang"]}))
    assert _run(place, "--out", place / "other", *QUICK, drawn=True) == 1
    told = capsys.readouterr()
    assert "No text of the person holds" in told.err
    assert "Bang" not in told.err
    assert not (place / "other").exists()


def test_of_a_grid_the_least_invasive_run_that_holds_is_kept(place: Path, capsys: Any) -> None:
    grid = ("--grid", "learning_rate=[1e-9, 3e-3, 6e-3]", "--set", "npo.steps=30")
    assert _run(place, "--gates", place / "gates.json", *grid) == 0

    result = json.loads(capsys.readouterr().out)
    runs = result["runs"]
    assert [run["learning_rate"] for run in runs] == [1e-9, 3e-3, 6e-3]
    assert not runs[0]["held"]
    held = [run for run in runs if run["held"]]
    assert result["relative_change"] == min(run["relative_change"] for run in held)


def test_gates_that_do_not_hold_leave_nothing_behind(place: Path, capsys: Any) -> None:
    weak = ("--set", "npo.learning_rate=1e-9", *QUICK)
    assert _run(place, "--gates", place / "gates.json", *weak) == 1
    assert "did not hold" in capsys.readouterr().err
    assert not (place / "new").exists()


def test_a_full_disk_leaves_nothing_behind(place: Path, capsys: Any) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    try:
        assert _run(place, *QUICK, "--delta", place / "delta") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "room on the disk" in capsys.readouterr().err
    assert not (place / "new").exists()
    assert not (place / "delta").exists()
    assert not list(place.glob(".*"))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--method", "erase"), "Unknown method"),
        (("--set", "rmu.steps=1"), "a method that is not run"),
        (("--set", "npo.steps=many"), "npo.steps must be of the type int"),
        (("--grid", "steps=[1, 2]"), "--gates"),
        (("--grid", "steps=1"), "key=[value, value]"),
        (("--records", "x"), "Give --forget and --retain, or"),
        (("--method", "altpo"), "alternate"),
        (("--out", "{base}"), "exists already"),
        (("--retain", "{forget}"), "both to unlearn and to retain"),
        (("--forget", "/dev/null"), "at least one text to unlearn"),
        (("--retain", "/dev/null"), "Give texts to retain"),
        (("--set", "npo.learning_rate=1e37"), "broke down"),
    ],
)
def test_what_cannot_be_done_is_told_and_nothing_is_made(
    place: Path, capsys: Any, more: tuple[str, str], words: str
) -> None:
    names = {"base": place / "base", "forget": place / "forget.jsonl"}
    before = set(place.rglob("*"))

    assert _run(place, *(one.format(**names) for one in more)) == 1

    told = capsys.readouterr()
    assert words in " ".join(told.err.split())
    assert told.out == ""
    assert set(place.rglob("*")) == before


def test_methods_are_listed_with_class_needs_and_settings(capsys: Any) -> None:
    assert main(["methods"]) == 0
    told = capsys.readouterr().out
    for name, method in METHODS.items():
        assert f"{name}: {method.summary[:20]}" in told
    assert told.count("class B: ") == len(METHODS)
    assert main(["methods", "npo"]) == 0
    assert "    beta = 0.1\n" in capsys.readouterr().out
