"""Canonical JSON and the checks of records."""

from __future__ import annotations

from typing import Any

import pytest

from reports.evidence import EvidenceError, canonical_json, check_letter, check_report
from tests.reports import factories, letters, verifications

MARK = "Zebulon Personal-Datum"
CHECK = ("targets", 0, "verification")


def changed(path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """Return the full evidence with one place set to value."""
    record = factories.full_evidence()
    place: Any = record
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return record


def test_canonical_json_sorts_and_keeps_scripts() -> None:
    assert canonical_json({"b": "ทำ", "a": [1, None]}) == '{"a":[1,null],"b":"ทำ"}'.encode()


@pytest.mark.parametrize("value", [float("nan"), {"a": {1, 2}}, {"a": b"x"}, "\ud800"])
def test_canonical_json_refuses_what_is_not_json(value: object) -> None:
    with pytest.raises(EvidenceError, match="not JSON"):
        canonical_json(value)


@pytest.mark.parametrize(
    "record",
    [
        factories.full_evidence(),
        factories.refused_evidence(),
        factories.nothing_found_evidence(),
        factories.withdrawn_evidence(),
    ],
    ids=["full", "refused", "nothing_found", "withdrawn"],
)
def test_check_report_accepts_complete_records(record: dict[str, Any]) -> None:
    assert check_report(record) == record


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schema",), "lethe.report/4", "report.schema must be: lethe.report/3"),
        (("case", "received_at"), MARK, "report.case.received_at must be a time"),
        (("case", "received_at"), "2026-11-03T10:00:00", "report.case.received_at must be a time"),
        (("case", "outcome"), MARK, "report.case.outcome must be: fulfilled"),
        (("case", MARK), 1, "report.case has fields other than"),
        (("case", "law", "reviewed"), "no", "report.case.law.reviewed must be true or false"),
        (("case", "outcome"), "refused", "report.refusal is missing"),
        (("case", "outcome"), "nothing_found", "need findings without a hit"),
        (("targets", 1, "id"), "t-1", "report.targets needs distinct ids"),
        (("targets", 0, "findings", "probes"), True, "probes must be a whole number"),
        (("targets", 0, "findings", "facts", 0, "hits"), 53, "hits must not exceed probes"),
        (("targets", 0, "findings", "trace", "layers"), [0], "grid must have one row a role"),
        (("targets", 0, "verification", "groups", 0, "after_rate"), 0.2, "divided by probes"),
        (("targets", 0, "verification", "groups", 0, "bound_95"), 0.0, "wrong side"),
        (("targets", 0, "verification", "criteria", 0, "held"), False, "a criterion did not hold"),
        (("targets", 0, "verification", "passed"), False, "need a verification"),
        ((*CHECK, "outcome"), "unknown", "outcome must say the same as passed"),
        ((*CHECK, "outcome"), MARK, "outcome must be: passed, failed, unknown"),
        ((*CHECK, "tables", "leak", 0, "after"), 0.9, r"leak\[0\] lies outside its bounds"),
        ((*CHECK, "tables", "neighbours", 0, "probes"), 0, "probes must be at least 1"),
        ((*CHECK, "tables", "attacks", 0, "chance"), 1.2, "chance must be a fraction"),
        ((*CHECK, "memory", "lens", "layer"), 6, "lens must have one share a layer"),
        ((*CHECK, "residual_risk", "leak_at", "10"), -0.1, "10 must be a fraction"),
        (("attempts", 0, "reasons"), [], "reasons are missing: it did not pass"),
        (("targets", 0, "application", "hash_after"), MARK, "must be a SHA-256"),
        (("attempts", 0, "target"), MARK, "report.attempts\\[0\\].target names no target"),
        (("events", 1, "seq"), 1, "report.events needs rising seq"),
    ],
)
def test_check_report_names_the_field_and_no_value(
    path: tuple[str | int, ...], value: object, message: str
) -> None:
    with pytest.raises(EvidenceError, match=message) as caught:
        check_report(changed(path, value))
    assert MARK not in str(caught.value)


def test_record_of_the_first_schema_is_completed_and_stays_as_it_was() -> None:
    record = verifications.former(factories.full_evidence())
    before = canonical_json(record)

    report = check_report(record)

    assert canonical_json(record) == before
    check, attempt = report["targets"][0]["verification"], report["attempts"][0]
    assert check is not None
    assert (check["outcome"], check["reasons"], check["measured_on"]) == ("passed", [], None)
    assert check["tables"] == {"leak": [], "neighbours": [], "attacks": []}
    assert (attempt["outcome"], attempt["reasons"]) == (
        "failed",
        ["Not held: Leak rate.", "Not held: Others drop."],
    )


def test_record_of_the_second_schema_says_only_what_its_bound_was_of() -> None:
    record = verifications.second(factories.full_evidence())
    before = canonical_json(record)

    check = check_report(record)["targets"][0]["verification"]

    assert canonical_json(record) == before
    assert check is not None
    assert check["residual_risk"]["upper_95"] == 0.0151
    assert check["residual_risk"]["level_upper_95"] is None
    record["targets"][0]["verification"]["residual_risk"]["level_upper_95"] = 0.5
    with pytest.raises(EvidenceError, match="residual_risk has fields other than"):
        check_report(record)


def test_record_of_the_first_schema_cannot_hold_later_fields() -> None:
    record = verifications.former(factories.full_evidence())
    record["targets"][0]["verification"]["outcome"] = "passed"
    with pytest.raises(EvidenceError, match="verification has fields other than"):
        check_report(record)


@pytest.mark.parametrize("value", [None, [], {"schema": "lethe.report/1"}, {"targets": 3}])
def test_check_report_refuses_what_is_no_record(value: object) -> None:
    with pytest.raises(EvidenceError, match="report"):
        check_report(value)


def test_check_report_missing_field() -> None:
    record = factories.full_evidence()
    del record["made_at"]
    with pytest.raises(EvidenceError, match=r"report\.made_at is missing"):
        check_report(record)


def test_check_letter_ragged_table() -> None:
    letter = letters.english_letter()
    letter["blocks"][1]["table"]["rows"][0].append("more")
    with pytest.raises(EvidenceError, match="as many cells"):
        check_letter(letter)
