from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from editing import METHODS
from editing.__main__ import main
from editing.compare import WIDTH, Comparison, table
from editing.facts import Fact, facts_of
from editing.measured import measure, place_of
from language_models import RequestError, load
from language_models.checkpoint import state_digest
from language_models.delta import WeightDelta
from language_models.methods import GUARANTEES
from language_models.progress import silent
from tests.editing.fact_rows import NAMES, row, tiny_rome
from tests.language_models.factories import tiny_checkpoint, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

ROME = ("role=last", "layer=1", "clamp=300", "learning_rate=0.5", "prefixes=0", "steps=30",
        "moment_weight=10", "neighbour_weight=1")  # fmt: skip
UNREACHABLE = "Silver Tide Shipping of Kyoto"


def _facts(count: int = 3) -> list[Fact]:
    return list(facts_of([row(number) for number in range(count)]))


def _measured(mode: str, facts: list[Fact], **changes: Any) -> dict[str, Any]:
    lm = tiny_model()
    before = state_digest(lm.model)
    found = measure(lm, facts, "rome", tiny_rome(**changes), mode=mode, batch_size=2,
                    max_new_tokens=1, progress=silent)  # fmt: skip
    assert state_digest(lm.model) == before == found["weights"]
    return found


@pytest.mark.parametrize("mode", ["single", "batch", "sequence"])
def test_method_is_measured_and_taken_back(mode: str) -> None:
    found = _measured(mode, _facts())

    assert (found["reached"], found["edits"], found["reason"]) == (3, 3, None)
    assert found["before"]["reliability"] == {"hits": 0, "total": 3, "rate": 0.0}
    assert found["after"]["reliability"] == {"hits": 3, "total": 3, "rate": 1.0}
    assert found["after"]["generalization"]["total"] == 3
    assert found["seconds_per_edit"] > 0
    assert 50 < found["peak_mb"] < 5000
    assert found["relative"] > found["rounding"] > 0
    assert found["config"]["moment_texts"] == 3


@pytest.mark.parametrize(("mode", "reached"), [("single", 2), ("batch", 0), ("sequence", 1)])
def test_part_that_is_not_reached_counts_as_it_answers(mode: str, reached: int) -> None:
    facts = _facts()
    facts[1] = facts_of([row(1, target=UNREACHABLE)])[0]

    found = _measured(mode, facts)

    assert (found["reached"], found["edits"]) == (reached, 3)
    assert found["after"]["reliability"] == {"hits": reached, "total": 3, "rate": reached / 3}
    assert "not reached" in found["reason"]


def test_edits_that_are_not_reached_can_be_marked() -> None:
    facts = facts_of([row(0), row(1, target=UNREACHABLE)])

    found = _measured("batch", list(facts), unreached="mark")

    assert (found["reached"], found["reason"]) == (1, None)


@pytest.mark.slow
def test_compare_has_a_row_for_each_method_and_tells_no_text(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tiny_checkpoint(tmp_path / "model")
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps([row(number) for number in range(2)]))
    settings = [word for value in ROME for word in ("--set", f"rome.{value}")]

    code = main(["compare", "--model", str(tmp_path / "model"), "--facts", str(facts),
                 "--methods", "rome,memit", "--mode", "batch", "--tokens", "1", *settings,
                 "--set", "memit.no_such=1", "--json", str(tmp_path / "found.json")])  # fmt: skip

    shown = capfd.readouterr()
    stored = (tmp_path / "found.json").read_text()
    first, second = json.loads(stored)["methods"]
    assert code == 0
    assert first["reached"] == 2
    assert first["after"]["reliability"]["rate"] == 1.0
    assert second["refused"].startswith("memit has no setting 'no_such'")
    assert shown.out.splitlines()[0] == "2 facts, batch: all facts at once"
    assert "rome: load 0/1" in shown.err
    for text in (*NAMES, "born in", "Where"):
        assert text not in shown.out + shown.err + stored
    assert sorted(one.name for one in tmp_path.iterdir()) == ["facts.json", "found.json", "model"]


def _shares(rate: float | None) -> dict[str, Any]:
    names = ("reliability", "generalization", "locality", "same_person", "general", "interference")
    total = 0 if rate is None else 12345
    return {name: {"hits": 0, "total": total, "rate": rate} for name in names}


def test_table_keeps_its_width_and_gives_each_reason() -> None:
    good = {
        "method": "alphaedit", "before": _shares(0.0), "after": _shares(1.0), "reason": None,
        "edits": 12345, "reached": 12345, "seconds_per_edit": 1234.5, "peak_mb": 123456.7,
        "relative": 1e-5,
    }  # fmt: skip
    empty = {**good, "method": "lora", "after": _shares(None), "reason": "Not reached. " * 20}
    refused = {"method": "mend", "refused": "Train its editor first."}
    failed = {"method": "malmen", "failed": "KeyError at editing/malmen.py, line 3"}

    shown = table({"mode": "sequence", "batch_size": 10, "facts": 12345,
                   "methods": [good, empty, refused, failed]})  # fmt: skip

    lines = shown.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[0] == (
        "12345 facts, sequence, batches of 10: one after another, all facts scored at the end"
    )
    ours = next(line for line in lines if line.startswith("alphaedit"))
    assert ours.split() == ["alphaedit", *["100.0%"] * 6, "1234.50", "123457", "1e-05",
                            "12345/12345"]  # fmt: skip
    assert "mend        refused" in lines
    assert "mend: Train its editor first." in lines
    assert "malmen: KeyError at editing/malmen.py, line 3" in lines
    assert sum(line.startswith("lora: ") for line in lines) == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"methods": []}, "each only once"),
        ({"methods": ["rome", "rome"]}, "each only once"),
        ({"methods": ["roma"]}, "Unknown method"),
        ({"mode": "all"}, "Unknown mode"),
        ({"batch_size": 0}, "start at 1"),
        ({"settings": {"memit": {}}}, "memit, which is not compared"),
    ],
)
def test_wrong_comparison_is_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError, match=told):
        Comparison(**{"model": tmp_path, "facts": _facts(), "methods": ["rome"], **changes})


def test_place_of_an_error_has_no_message() -> None:
    try:
        tiny_rome(steps=object())
    except TypeError:
        found = place_of(sys.exc_info()[1] or ValueError())

    assert found.startswith("TypeError at language_models/methods.py, line ")


def test_methods_lists_class_needs_and_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "rome"]) == 0

    shown = capsys.readouterr().out
    words = " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert f"class B: {GUARANTEES['B']}" in words
    assert f"needs: {', '.join(METHODS['rome'].needs)}" in words
    for one in METHODS["rome"].settings():
        assert f"{one['name']} = " in words
        assert f"{one['help']} [{one['source']}]" in words
        if one["published"] != one["default"]:
            assert f"(published: {one['published']})" in words


def test_apply_saves_the_edited_model_and_its_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_checkpoint(tmp_path / "model")
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps([row(0), row(1, target=UNREACHABLE)]))
    settings = [word for value in ROME for word in ("--set", f"rome.{value}")]
    order = ["apply", "--model", str(tmp_path / "model"), "--facts", str(facts), "--method",
             "rome", "--out", str(tmp_path / "edited"), "--delta", str(tmp_path / "delta"),
             "--tokens", "1", *settings]  # fmt: skip

    assert main(order) == 0

    shown = capsys.readouterr()
    edited = load(tmp_path / "edited", device="cpu")
    original = load(tmp_path / "model", device="cpu")
    assert "left out: entry 2: 1 of 1 edits were not reached" in shown.out
    assert "reliability" in shown.out
    assert "Encrypt it" in shown.err
    assert NAMES[0] not in shown.out + shown.err
    delta = WeightDelta.load(tmp_path / "delta")
    assert delta.revert(edited) == state_digest(original.model)
    assert main(order) == 1
    assert "exists already" in capsys.readouterr().err


def test_apply_refuses_what_leaves_no_change_in_the_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path)

    assert main(["apply", "--model", folder, "--facts", folder, "--method", "grace", "--out",
                 str(tmp_path / "out")]) == 1  # fmt: skip

    assert "leaves the weights as they are" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
