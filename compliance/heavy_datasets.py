"""Heavy steps on datasets: find a person's rows, delete or correct them, check the result.

No Django. Every record is read, so the counts are exact and nothing is estimated.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from search import corrected, find, holds, without_subject

if TYPE_CHECKING:
    from collections.abc import Callable

    Report = Callable[[str, int, int], None]


def search(entry: dict[str, Any], person: dict[str, Any]) -> dict[str, Any]:
    """The person's records in one dataset, and mentions in other records."""
    lines = entry["records"].splitlines()
    hits = find(
        lines,
        subject=person["id"],
        identifiers={
            "name": person["name"],
            "native name": person["native_name"],
            "e-mail": person["contact"],
        },
    )
    own = sum(hit.own for hit in hits)
    return {
        "id": entry["id"],
        "affected": own > 0,
        "summary": {
            "how": (
                f"All {len(lines)} records were read: for the person's subject id, and for the "
                "name in both scripts and the e-mail address as whole words. "
                f"{len(hits) - own} records of others mention one of them."
            ),
            "probes": len(lines),
            "facts": [],
            "records": own,
            "mentions": len(hits) - own,
        },
        "evidence": [hit.as_dict() for hit in hits],
    }


def apply(request: dict[str, Any], report: Report) -> dict[str, Any]:
    """The new version of a dataset and how the old one stood against the plan."""
    started = time.monotonic()
    report("Rewriting the dataset", 0, 1)
    lines = request["records"].splitlines()
    subject = request["person"]["id"]
    before = _counts(lines, request)
    if request["method"] == "delete_rows":
        kept = without_subject(lines, subject)
        details = {"rows removed": len(lines) - len(kept)}
    else:
        kept, changed = corrected(lines, subject, request["former_value"], request["new_value"])
        details = {"rows corrected": changed}
    report("Rewriting the dataset", 1, 1)
    return {
        "before": _measurement(before),
        "records": "".join(f"{line}\n" for line in kept),
        "count": len(kept),
        "details": details,
        "seconds": round(time.monotonic() - started, 2),
    }


def verify(request: dict[str, Any], report: Report) -> dict[str, Any]:
    """Read both versions whole: no row of the plan is left, every other row is unchanged."""
    report("Reading the new version", 0, 1)
    old, new = request["records_before"].splitlines(), request["records_after"].splitlines()
    total = request["before"]["groups"]["leak"]["n"]
    left = _counts(new, request)["hits"]
    others_same = _others(old, request) == _others(new, request)
    report("Reading the new version", 1, 1)
    criteria = [
        _criterion("rows_left", float(left), 0.0, held=left == 0),
        _criterion("other_rows_changed", 0.0 if others_same else 1.0, 0.0, held=others_same),
    ]
    what = "rows of the person" if request["method"] == "delete_rows" else "rows with the value"
    return {
        "after": _measurement({"hits": left, "n": total}),
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


def _counts(lines: list[str], request: dict[str, Any]) -> dict[str, int]:
    """Rows that the plan wants gone: the person's, or those of them with the former value."""
    subject = request["person"]["id"]
    if request["method"] == "delete_rows":
        hits = len(lines) - len(without_subject(lines, subject))
    else:
        hits = sum(holds(line, subject, request["former_value"]) for line in lines)
    return {"hits": hits, "n": hits}


def _others(lines: list[str], request: dict[str, Any]) -> list[str]:
    return without_subject(lines, request["person"]["id"])


def _measurement(counts: dict[str, int]) -> dict[str, Any]:
    """A full count in the shape of a measurement; its bound is the rate itself."""
    rate = counts["hits"] / counts["n"] if counts["n"] else 0.0
    group = {**counts, "rate": rate, "upper_95": rate, "lower_95": rate}
    return {"groups": {"leak": group | {"label": "Rows about the person, all read"}}}


def _criterion(name: str, measured: float, threshold: float, *, held: bool) -> dict[str, Any]:
    return {"name": name, "measured": measured, "threshold": threshold, "held": held}
