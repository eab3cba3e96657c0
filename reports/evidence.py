"""Canonical JSON and the checks that a record must pass before anything is printed from it.

Messages name the path of a field and what it needs. They never hold a value, because a value
may be personal data.
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import date, datetime
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from reports import fields, former, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reports import figures

DIGEST = re.compile(r"[0-9a-f]{64}")
MAXIMUM_DEPTH = 32
# Rates in a record may be rounded to three decimals.
ROUNDING = 0.001


class EvidenceError(ValueError):
    """A record that cannot be rendered; the message names the field, never its value."""


def canonical_json(value: object) -> bytes:
    """Return the one byte string of a JSON value: sorted keys, no spaces, UTF-8, no NaN.

    Raises EvidenceError when the value is not JSON.
    """
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return text.encode()
    except (TypeError, ValueError, RecursionError):
        # The library's own message would repeat the value.
        message = "the record is not JSON: use text, finite numbers, true, false, null, [] and {}"
        raise EvidenceError(message) from None


def digest(data: bytes) -> str:
    """Return the SHA-256 of data as lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def check_report(evidence: object) -> record.Report:
    """Return evidence as a report record of today's schema, or raise EvidenceError.

    The error names the first fault. A record of an earlier schema is completed, see former.py.
    """
    evidence = former.current(evidence)
    _check(evidence, record.Report, "report")
    canonical_json(evidence)
    report = cast("record.Report", evidence)
    _check_outcome(report)
    for index, target in enumerate(report["targets"]):
        _check_target(target, f"report.targets[{index}]")
    identifiers = [target["id"] for target in report["targets"]]
    _require(len(set(identifiers)) == len(identifiers), "report.targets", "needs distinct ids")
    for index, attempt in enumerate(report["attempts"]):
        path = f"report.attempts[{index}]"
        _require(attempt["target"] in identifiers, f"{path}.target", "names no target")
        _require(not attempt["passed"], f"{path}.passed", "must be false: it is a failed attempt")
        _check_verification(attempt, path)
    numbers = [event["seq"] for event in report["events"]]
    _require(numbers == sorted(set(numbers)), "report.events", "needs rising seq")
    return report


def check_letter(letter: object) -> record.Letter:
    """Return letter as a letter record, or raise EvidenceError with the first fault."""
    _check(letter, record.Letter, "letter")
    canonical_json(letter)
    checked = cast("record.Letter", letter)
    for index, block in enumerate(checked["blocks"]):
        table = block["table"]
        if table is not None:
            widths = {len(row) for row in table["rows"]} | {len(table["head"])}
            path = f"letter.blocks[{index}].table"
            _require(len(widths) == 1, path, "needs as many cells in each row as in its head")
    return checked


def strings(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Yield (path, text) for every string value of a JSON value, in order."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from strings(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from strings(item, f"{path}[{index}]")


def _require(condition: object, path: str, need: str) -> None:
    if not condition:
        raise EvidenceError(f"{path} {need}")


def _check(value: object, kind: Any, path: str, depth: int = 0) -> None:
    _require(depth < MAXIMUM_DEPTH, path, "is nested too deeply")
    if kind is Any:
        return
    if kind in _LEAVES:
        test, need = _LEAVES[kind]
        _require(test(value), path, f"must be {need}")
        return
    origin = get_origin(kind)
    if origin is Literal:
        choices = ", ".join(get_args(kind))
        _require(isinstance(value, str) and value in get_args(kind), path, f"must be: {choices}")
    elif origin is list:
        _require(isinstance(value, list), path, "must be a list")
        for index, item in enumerate(cast("list[object]", value)):
            _check(item, get_args(kind)[0], f"{path}[{index}]", depth + 1)
    elif origin is dict:
        _require(isinstance(value, dict), path, "must be an object")
        for key, item in cast("dict[object, object]", value).items():
            _require(isinstance(key, str), path, "must have text as keys")
            _check(item, get_args(kind)[1], f"{path}.{key}", depth + 1)
    elif origin in (Union, UnionType):
        if value is not None:
            inner = next(item for item in get_args(kind) if item is not NoneType)
            _check(value, inner, path, depth + 1)
    else:
        _check_object(value, kind, path, depth)


def _check_object(value: object, kind: Any, path: str, depth: int) -> None:
    _require(isinstance(value, dict), path, "must be an object")
    shape = get_type_hints(kind)
    given = cast("dict[str, object]", value)
    for name in shape:
        _require(name in given, f"{path}.{name}", "is missing")
    # Unknown keys may be personal data that slipped in, so their names are not repeated.
    _require(len(given) == len(shape), path, f"has fields other than {', '.join(shape)}")
    for name, inner in shape.items():
        _check(given[name], inner, f"{path}.{name}", depth + 1)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_time(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _is_date(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


_LEAVES: dict[Any, tuple[Callable[[Any], bool], str]] = {
    str: (lambda value: isinstance(value, str), "text"),
    bool: (lambda value: isinstance(value, bool), "true or false"),
    int: (_is_whole, "a whole number"),
    float: (_is_number, "a number"),
    fields.Count: (lambda value: _is_whole(value) and value >= 0, "a whole number from 0"),
    fields.Rate: (lambda value: _is_number(value) and 0 <= value <= 1, "a fraction from 0 to 1"),
    fields.Time: (_is_time, "a time in ISO 8601 with its offset"),
    fields.Date: (_is_date, "a day as YYYY-MM-DD"),
    fields.Digest: (
        lambda value: isinstance(value, str) and DIGEST.fullmatch(value) is not None,
        "a SHA-256 of 64 lower-case hexadecimal digits",
    ),
}


def _check_outcome(report: record.Report) -> None:
    outcome = report["case"]["outcome"]
    refused = report["refusal"] is not None
    if outcome == "refused":
        _require(refused, "report.refusal", "is missing: the outcome is refused")
    elif outcome != "partly_fulfilled":
        _require(not refused, "report.refusal", "must be null: the outcome is not a refusal")
    if outcome == "fulfilled":
        verified = [target["verification"] for target in report["targets"]]
        passed = any(item is not None for item in verified) and all(
            item is None or item["passed"] for item in verified
        )
        need = "need a verification and none that failed: the outcome is fulfilled"
        _require(passed, "report.targets", need)
    if outcome == "nothing_found":
        findings = [item["findings"] for item in report["targets"] if item["findings"] is not None]
        found = sum(
            item["facts_given_out"]
            + (item["records"] or 0)
            + sum(fact["hits"] for fact in item["facts"])
            for item in findings
        )
        need = "need findings without a hit or a record: the outcome is nothing_found"
        _require(findings and found == 0, "report.targets", need)


def _check_target(target: record.Target, path: str) -> None:
    findings = target["findings"]
    if findings is not None:
        for index, fact in enumerate(findings["facts"]):
            here = f"{path}.findings.facts[{index}].hits"
            _require(fact["hits"] <= fact["probes"], here, "must not exceed probes")
        trace = findings["trace"]
        if trace is not None:
            _check_trace(trace, f"{path}.findings.trace")
    verification = target["verification"]
    if verification is not None:
        _check_verification(verification, f"{path}.verification")


def _check_trace(trace: record.Trace, path: str) -> None:
    shape = {len(row) for row in trace["grid"]} or {0}
    fits = len(trace["grid"]) == len(trace["roles"]) and shape == {len(trace["layers"])}
    _require(fits, f"{path}.grid", "must have one row a role and one column a layer")
    inside = trace["site"]["role"] in trace["roles"] and trace["site"]["layer"] in trace["layers"]
    _require(inside, f"{path}.site", "must name one of the roles and one of the layers")


def _check_verification(verification: figures.Verification, path: str) -> None:
    _check_groups(verification["groups"], f"{path}.groups")
    passed = verification["passed"]
    if passed:
        held = all(item["held"] for item in verification["criteria"])
        _require(held, f"{path}.passed", "must be false: a criterion did not hold")
    same = passed == (verification["outcome"] == "passed")
    _require(same, f"{path}.outcome", "must say the same as passed")
    _require(passed or verification["reasons"], f"{path}.reasons", "are missing: it did not pass")
    for name in ("leak", "neighbours"):
        for index, row in enumerate(verification["tables"][name]):
            _check_part(row, f"{path}.tables.{name}[{index}]")
    lens = verification["memory"]["lens"]
    if lens is not None:
        layers = len(lens["shares"])
        fits = lens["layer"] < layers and len(lens["chance"]) in (0, layers)
        _require(fits, f"{path}.memory.lens", "must have one share a layer")


def _check_part(row: figures.Part, path: str) -> None:
    _require(row["probes"] > 0, f"{path}.probes", "must be at least 1")
    sides = (
        (row["before_low"], row["before"], row["before_high"]),
        (row["after_low"], row["after"], row["after_high"]),
    )
    for low, rate, high in sides:
        _require(low - ROUNDING <= rate <= high + ROUNDING, path, "lies outside its bounds")


def _check_groups(groups: list[figures.Group], path: str) -> None:
    for index, group in enumerate(groups):
        here = f"{path}[{index}]"
        probes, after = group["probes"], group["after_hits"]
        _require(probes > 0, f"{here}.probes", "must be at least 1")
        _require(_follows(group["after_rate"], after, probes), f"{here}.after_rate", _RATE)
        before, rate = group["before_hits"], group["before_rate"]
        _require((before is None) == (rate is None), f"{here}.before_rate", "goes with before_hits")
        if before is not None and rate is not None:
            _require(_follows(rate, before, probes), f"{here}.before_rate", _RATE)
        gap = group["bound_95"] - group["after_rate"]
        outside = gap >= -ROUNDING if group["bound_kind"] == "upper" else gap <= ROUNDING
        _require(outside, f"{here}.bound_95", "lies on the wrong side of after_rate")


_RATE = "must be its hits divided by probes"


def _follows(rate: float, hits: int, probes: int) -> bool:
    return hits <= probes and abs(rate - hits / probes) <= ROUNDING
