from __future__ import annotations

import copy
import math
from typing import Any

import pytest

from compliance import evidence, measured
from compliance.evidence import _readable, not_tested
from compliance.models import Application, Target, TargetKind, Verification
from evaluation.attack_classes import told
from reports import report
from reports.evidence import check_report, strings
from reports.wording import banned_words
from tests.web import factories, results
from unlearning.guarantee import guarantee


def stated(
    after: dict[str, Any],
    verdict: dict[str, Any],
    *,
    before: dict[str, Any] | None = None,
    passed: bool = True,
    kind: TargetKind = TargetKind.MODEL,
) -> dict[str, Any]:
    """What the record says of these figures."""
    application = Application(target=Target(kind=kind), before=before)
    return measured.stated(application, Verification(after=after, verdict=verdict, passed=passed))


def new(**fields: Any) -> dict[str, Any]:
    """What is said of a changed model, with some fields of its measurement replaced."""
    before = results.measurement(leak=331, upper=0.94)
    after = results.measurement(leak=1, upper=0.0131, attacked=True)
    return stated(after | fields, results.verdict(passed=True), before=before)


def test_the_class_of_a_result_is_readable_in_the_report() -> None:
    told = guarantee("B")

    figures = _readable({"steps": 50, "guarantee": told.as_dict()})

    assert figures == {
        "steps": 50,
        "class": "B",
        "claim": told.claim,
        "conditions": " ".join(told.conditions),
        "limits": " ".join(told.limits),
    }
    assert [banned_words(text) for _, text in strings(figures, "details")] == [[]] * 4


def test_a_model_is_told_with_its_parts_attacks_and_traces() -> None:
    told_of = new()

    assert (told_of["outcome"], told_of["reasons"]) == ("passed", [])
    assert told_of["measured_on"] == (
        f"The weights themselves; SHA-256 of the model folder {results.sha('folder')}"
    )
    assert [row["key"] for row in told_of["tables"]["leak"]] == [
        *("form:statement", "form:role_play", "language:en", "language:th", "language:lo"),
        *("all", "control"),
    ]
    assert [row["label"] for row in told_of["tables"]["attacks"]] == ["Rounded weights, 4 bits"]
    assert told_of["memory"]["membership"] == [
        {"score": "loss", "label": "Loss", "before": 1.0, "area": 0.12, "low": 0.02, "high": 0.12}
    ]
    assert told_of["memory"]["lens"]["layer"] == 2
    assert told_of["perplexity"] == {"before": 12.41, "after": 12.66}
    assert told_of["residual_risk"]["leak_at"] == {"1": 0.0028, "10": 0.028}


def test_what_was_run_is_not_told_as_untested_and_what_was_left_out_is() -> None:
    told_of = new()
    untested = " ".join(told_of["not_tested"])
    for words in ("role play", "4 bits", "logit lens", "statistical membership", "in Thai"):
        assert words not in untested
        assert words in " ".join(told_of["tested"])
    for words in ("8 bits", "relearning", "own texts", "in Japanese", "gradients"):
        assert words in untested


def test_rows_of_earlier_versions_say_what_they_hold() -> None:
    before = results.former(results.measurement(leak=331, upper=0.94))
    after = results.former(results.measurement(leak=1, upper=0.0131))
    verdict = results.verdict(passed=True)
    for later in ("outcome", "reasons"):
        del verdict[later]
    for later in ("leak_at", "level_upper_95"):
        del verdict["residual_risk"][later]

    told_of = stated(after, verdict, before=before)

    assert (told_of["outcome"], told_of["measured_on"]) == ("passed", None)
    # Of direct questions alone: the level may have followed from others.
    risk = told_of["residual_risk"]
    assert (risk["upper_95"] > 0, risk["level_upper_95"]) == (True, None)
    assert told_of["tables"] == {"leak": [], "neighbours": [], "attacks": []}
    assert told_of["tested"] == told(measured.SEARCHED, run=True)


def test_a_criterion_of_one_part_names_it() -> None:
    verdict = results.verdict(passed=True)
    rows = {"leak_by_fact": "birth_city", "indirect_by_form": "role_play"}
    verdict["criteria"] = [
        results.criterion(name, 0.0, "at most", 0.02) | {"group": part}
        for name, part in rows.items()
    ]
    before = after = results.measurement(leak=1, upper=0.0131)

    labels = [row["label"] for row in stated(after, verdict, before=before)["criteria"]]

    assert [label.rpartition(": ")[2] for label in labels] == ["birth city", "Role play"]


def test_a_dataset_is_counted_and_has_no_attacks() -> None:
    told_of = stated(
        results.counted(0),
        results.dataset_verdict(),
        before=results.counted(9),
        kind=TargetKind.DATASET,
    )
    assert [row["unit"] for row in told_of["criteria"]] == ["count", "count"]
    assert (told_of["tables"]["leak"], told_of["not_tested"]) == ([], [])
    assert told_of["residual_risk"]["level_upper_95"] == 0.0


def test_nothing_measured_is_unknown_with_its_reason_and_no_bound() -> None:
    verdict = {
        "criteria": [],
        "outcome": "unknown",
        "reasons": ["The model gave no numbers."],
        "residual_risk": None,
    }
    after = {"groups": {}, "hit_probes": {}, "perplexity": math.nan, "problems": ["No numbers."]}
    before = results.measurement(leak=331, upper=0.94)

    told_of = stated(after, verdict, before=before, passed=False)

    assert (told_of["outcome"], told_of["reasons"]) == ("unknown", ["The model gave no numbers."])
    assert told_of["residual_risk"]["upper_95"] is None
    assert (told_of["perplexity"], told_of["tested"]) == (None, [])


@pytest.mark.parametrize("stored", ["failed", "passed"])
def test_a_change_that_held_its_plan_fails_by_an_earlier_duty(stored: str) -> None:
    verdict = results.verdict(passed=True) | {
        "outcome": stored,  # "passed" in rows of before
        "reasons": ["A duty is resurfaced."],
    }
    after = results.measurement(leak=1, upper=0.0131, attacked=True)
    told_of = stated(after, verdict, passed=False)
    assert (told_of["outcome"], told_of["reasons"]) == ("failed", ["A duty is resurfaced."])


def test_an_endpoint_is_named() -> None:
    where = {"kind": "endpoint", "url": "https://models.example/v1", "model": "assistant-2"}
    assert new(where=where)["measured_on"] == (
        "The service at https://models.example/v1, asked for the model “assistant-2”"
    )


def test_untested_attacks_are_told_for_each_model_that_differs() -> None:
    one = {"name": "A", "kind": "model", "verification": new()}
    other = {"name": "B", "kind": "model", "verification": None}
    rows = {"name": "C", "kind": "dataset", "verification": None}

    assert not_tested([rows]) == evidence.OUTSIDE
    assert not_tested([one, one, rows]) == [*one["verification"]["not_tested"], *evidence.OUTSIDE]
    apart = not_tested([one, other])
    assert any(line.startswith("“B”: Ways of asking: ") for line in apart)
    assert apart[-3:] == evidence.OUTSIDE


@pytest.mark.django_db
def test_the_record_of_a_case_fits_its_schema_and_prints() -> None:
    place = factories.organisation()
    factories.registry(place)
    case, _ = factories.received(place)
    factories.verified(case)

    gathered = evidence.gather(case)

    assert check_report(copy.deepcopy(gathered)) == gathered
    assert "By form of the question" in report.page(gathered)
