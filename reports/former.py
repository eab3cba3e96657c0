"""Records of earlier schemas in today's shape, so that they can still be read and printed.

Only what is shown is completed; the record itself, and its digest, stay as they were signed.
"""

from __future__ import annotations

import copy
from typing import Any

from reports.typography import words

FIRST, SECOND = "lethe.report/1", "lethe.report/2"
CURRENT = "lethe.report/3"

# What a verification of schema 1 did not record.
_NOT_RECORDED: dict[str, Any] = {
    "measured_on": None,
    "tables": {"leak": [], "neighbours": [], "attacks": []},
    "memory": {"membership": [], "texts": [], "facts": [], "lens": None},
    "perplexity": None,
    "tested": [],
    "not_tested": [],
}
_RISK: dict[str, Any] = {"leak_at": {}, "chance_hits": 0, "chance_probes": 0}
# What neither recorded: there the level may follow from more than the bound that stands beside it.
_RISK_OF_BOTH: dict[str, Any] = {"level_upper_95": None}


def current(record: object) -> object:
    """Return a record of schema 1 or 2 as one of schema 3; anything else as it is.

    A field that its schema does not have stays in its place and is refused by the checks.
    """
    if not isinstance(record, dict) or record.get("schema") not in (FIRST, SECOND):
        return record
    made = copy.deepcopy(record)
    made["schema"] = CURRENT
    targets = [target.get("verification") for target in _dicts(made.get("targets"))]
    for verification in _dicts([*targets, *_dicts(made.get("attempts"))]):
        if record["schema"] == FIRST:
            _complete(verification)
        for risk in _dicts([verification.get("residual_risk")]):
            _add(risk, _RISK_OF_BOTH)
    return made


def _complete(verification: dict[str, Any]) -> None:
    criteria = _dicts(verification.get("criteria"))
    for row in criteria:
        label = words(row["name"]) if isinstance(row.get("name"), str) else ""
        _add(row, {"label": label, "bound": "", "unit": "number"})
    for risk in _dicts([verification.get("residual_risk")]):
        _add(risk, _RISK)
    passed = verification.get("passed") is True
    missed = [f"Not held: {row['label']}." for row in criteria if row.get("held") is False]
    reasons = [] if passed else missed or ["A criterion did not hold."]
    outcome = {"outcome": "passed" if passed else "failed", "reasons": reasons}
    _add(verification, outcome | copy.deepcopy(_NOT_RECORDED))


def _add(row: dict[str, Any], fields: dict[str, Any]) -> None:
    # Two fields of one name: the record claims what its schema cannot hold.
    for name, value in fields.items():
        row[f"{name} (twice)" if name in row else name] = value


def _dicts(values: object) -> list[dict[str, Any]]:
    return [one for one in values if isinstance(one, dict)] if isinstance(values, list) else []
