"""Heavy steps on datasets: find a person's rows, delete or correct them, check the result.

No Django. Every record is read, so the counts are exact and nothing is estimated.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from search import correct_subject, count_holding, find_subject, remove_subject

if TYPE_CHECKING:
    from collections.abc import Callable

    Report = Callable[[str, int, int], None]


def search(entry: dict[str, Any], person: dict[str, Any], named: str) -> dict[str, Any]:
    """The person's records in one dataset, and mentions in other records.

    named: the one fact that the request is about, or "".
    """
    found = find_subject(
        _lines(entry["records"]),
        subject=person["id"],
        identifiers={
            "name": person["name"],
            "native name": person["native_name"],
            "e-mail": person["contact"],
        },
    )
    own = [match for match in found.matches if "subject id" in match.found]
    mentions = len(found.matches) - len(own)
    return {
        "id": entry["id"],
        # A request about one fact needs a value of it to correct.
        "affected": bool(own) and (not named or named in person["facts"]),
        "summary": {
            "how": (
                f"All {found.records} records were read, for the {', '.join(found.searched)}; "
                f"names and addresses as whole words. {mentions} records of others mention one."
            ),
            "probes": found.records,
            "facts": [],
            "records": len(own),
            "mentions": mentions,
        },
        "evidence": [
            {"record": match.record, "own": match in own, "by": list(match.found)}
            for match in found.matches
        ],
    }


def apply(request: dict[str, Any], report: Report) -> dict[str, Any]:
    """The new version of a dataset and how the old one stood against the plan."""
    started = time.monotonic()
    report("Rewriting the dataset", 0, 1)
    lines = _lines(request["records"])
    subject = request["person"]["id"]
    before = _left(lines, request)
    if request["method"] == "delete_rows":
        new = remove_subject(lines, subject)
        details = {"rows removed": new.removed}
    else:
        new = correct_subject(lines, subject, request["former_value"], request["new_value"])
        details = {"rows corrected": new.corrected}
    report("Rewriting the dataset", 1, 1)
    return {
        "before": _measurement(before, before),
        "records": b"".join(new.lines).decode(),
        "count": len(new.lines),
        "details": details,
        "seconds": round(time.monotonic() - started, 2),
    }


def _lines(records: str) -> list[bytes]:
    return records.encode().splitlines(keepends=True)


def verify(request: dict[str, Any], report: Report) -> dict[str, Any]:
    """Read both versions whole: no row of the plan is left, every other row is unchanged."""
    report("Reading the new version", 0, 1)
    old, new = _lines(request["records_before"]), _lines(request["records_after"])
    subject = request["person"]["id"]
    total = request["before"]["groups"]["leak"]["n"]
    left = _left(new, request)
    others_same = remove_subject(old, subject).lines == remove_subject(new, subject).lines
    report("Reading the new version", 1, 1)
    criteria = [
        _criterion("rows_left", float(left), 0.0, held=left == 0),
        _criterion("other_rows_changed", 0.0 if others_same else 1.0, 0.0, held=others_same),
    ]
    what = "rows of the person" if request["method"] == "delete_rows" else "rows with the value"
    return {
        "after": _measurement(left, total),
        "verdict": {
            "criteria": criteria,
            "passed": all(row["held"] for row in criteria),
            "residual_risk": {
                "level": "low" if left == 0 else "high",
                "upper_95": left / total if total else 0.0,
                "probes": len(new),
                "statement": (
                    f"All {len(new)} rows of the new version were read: {left} of {total} {what} "
                    "are left. Copies, backups and exports outside the registry were not searched."
                ),
            },
        },
    }


def _left(lines: list[bytes], request: dict[str, Any]) -> int:
    """Rows that the plan wants gone: the person's, or those of them with the former value."""
    subject = request["person"]["id"]
    if request["method"] == "delete_rows":
        return remove_subject(lines, subject).removed
    return count_holding(lines, subject, request["former_value"])


def _measurement(hits: int, rows: int) -> dict[str, Any]:
    """A full count in the shape of a measurement; its bound is the rate itself."""
    rate = hits / rows if rows else 0.0
    group = {"hits": hits, "n": rows, "rate": rate, "upper_95": rate, "lower_95": rate}
    return {"groups": {"leak": group | {"label": "Rows about the person, all read"}}}


def _criterion(name: str, measured: float, threshold: float, *, held: bool) -> dict[str, Any]:
    return {"name": name, "measured": measured, "threshold": threshold, "held": held}
