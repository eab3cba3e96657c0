"""Figures of a rehearsal: summary.json, the table in the terminal, what was not reached."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from . import store
from .evidence import latest_decision
from .models import Application, Case, DocumentKind, Target, TargetKind, Verification

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from .rehearsal import Rehearsal

# What the demonstration promises (docs/demo.md).
LEAK_BEFORE_MIN = 0.85
LEAK_AFTER_MAX = 0.02
DROP_MAX = 0.02
NEW_VALUE_MIN = 0.95
SAME_PERSON_MIN = 0.95
PROBES_MIN = 300
FIGURES = (
    "leak_before",
    "leak_after",
    "probes",
    "residual_risk",
    "residual_risk_upper_95",
    "others_before",
    "others_after",
    "general_before",
    "general_after",
    "new_value",
    "same_person",
)


def summarise(rehearsal: Rehearsal, out: Path) -> dict[str, Any]:
    """Figures of the three cases; copies their PDFs to `out`."""
    cases = [part.case for part in rehearsal.parts if part.case is not None]
    return {
        "cases": [_case(case, out) for case in cases],
        "seconds": {case.reference: _seconds(case) for case in cases},
    }


def _case(case: Case, out: Path) -> dict[str, Any]:
    targets = list(case.targets.filter(affected=True).order_by("pk"))
    report = case.documents.get(kind=DocumentKind.REPORT)
    for document in case.documents.all():
        (out / document.file_name).write_bytes(store.get(document.artefact))
    return {
        "reference": case.reference,
        "status": case.status,
        "outcome": case.outcome,
        "measures": [measure for target in targets if (measure := _measure(target))],
        **_figures(targets),
        "report": report.file_name,
        "report_sha256": hashlib.sha256((out / report.file_name).read_bytes()).hexdigest(),
        "signature_valid": report.signature_valid,
    }


def _measure(target: Target) -> dict[str, Any] | None:
    decision = latest_decision(target)
    application = Application.objects.filter(decision=decision).first()
    if decision is None or application is None:
        return None
    before = application.model_before or application.dataset_before
    after = application.model_after or application.dataset_after
    is_model = target.kind == TargetKind.MODEL
    return {
        "method": decision.method,
        "target": target.name,
        "guarantee_class": decision.guarantee_class,
        "model_before": before.digest if is_model and before else None,
        "model_after": after.digest if is_model and after else None,
        "dataset_before": None if is_model or before is None else before.digest,
        "dataset_after": None if is_model or after is None else after.digest,
    }


def _figures(targets: list[Target]) -> dict[str, Any]:
    model = next((target for target in targets if target.kind == TargetKind.MODEL), None)
    verification = (
        Verification.objects.filter(application__target=model).order_by("-pk").first()
        if model is not None
        else None
    )
    if verification is None:
        return dict.fromkeys(FIGURES) | {"probes": 0}
    before = (verification.application.before or {})["groups"]
    after = verification.after["groups"]
    return {
        "leak_before": before["leak"]["rate"],
        "leak_after": after["leak"]["rate"],
        "probes": after["leak"]["n"],
        "residual_risk": verification.verdict["residual_risk"]["level"],
        "residual_risk_upper_95": verification.verdict["residual_risk"]["level_upper_95"],
        "others_before": before["others"]["rate"],
        "others_after": after["others"]["rate"],
        "general_before": before["general"]["rate"],
        "general_after": after["general"]["rate"],
        "new_value": after["new_value"]["rate"] if "new_value" in after else None,
        "same_person": _kept(verification),
    }


def _kept(verification: Verification) -> float | None:
    """Share of the person's other facts that the model gave out before and gives out after."""
    for row in verification.verdict["criteria"]:
        if row["name"] == "same_person_kept":
            return float(row["measured"])
    return None


def _seconds(case: Case) -> dict[str, float]:
    """Seconds of work per stage; jobs of one stage are added up."""
    seconds: dict[str, float] = {}
    for job in case.jobs.filter(state="done").order_by("created_at"):
        took = _between(job.started_at, job.finished_at)
        seconds[job.kind] = round(seconds.get(job.kind, 0.0) + took, 1)
    seconds["whole"] = _between(case.received_at, case.closed_at)
    return seconds


def _between(start: datetime | None, end: datetime | None) -> float:
    return round((end - start).total_seconds(), 1) if start and end else 0.0


def table(summary: dict[str, Any]) -> str:
    """The figures for the terminal."""
    head = (
        "case",
        "outcome",
        "measure",
        "before",
        "after",
        "probes",
        "risk, at most",
        "others",
        "general",
        "seconds",
    )
    rows = [head]
    for case in summary["cases"]:
        rows.append(
            (
                case["reference"],
                case["outcome"],
                ", ".join(measure["method"] for measure in case["measures"]) or "none",
                _percent(case["leak_before"]),
                _percent(case["leak_after"]),
                str(case["probes"]),
                _risk(case),
                f"{_percent(case['others_before'])} → {_percent(case['others_after'])}",
                f"{_percent(case['general_before'])} → {_percent(case['general_after'])}",
                f"{summary['seconds'][case['reference']]['whole']:.0f}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _risk(case: dict[str, Any]) -> str:
    level = case["residual_risk"]
    return "–" if level is None else f"{level}, {_percent(case['residual_risk_upper_95'])}"


def _percent(rate: float | None) -> str:
    return "–" if rate is None else f"{100 * rate:.1f} %"


def failures(summary: dict[str, Any]) -> list[str]:
    """What the demonstration promises and did not reach."""
    wrong = []
    for case in summary["cases"]:
        if not case["signature_valid"]:
            wrong.append(f"{case['reference']}: the signature is not valid")
        if case["leak_before"] is None:
            continue
        checks = {
            "leak before": case["leak_before"] > LEAK_BEFORE_MIN,
            "leak after": case["leak_after"] <= LEAK_AFTER_MAX,
            "probes": case["probes"] >= PROBES_MIN,
            "others": case["others_before"] - case["others_after"] <= DROP_MAX + 1e-9,
            "general": case["general_before"] - case["general_after"] <= DROP_MAX + 1e-9,
            "new value": case["new_value"] is None or case["new_value"] >= NEW_VALUE_MIN,
            "same person": case["same_person"] is None or case["same_person"] >= SAME_PERSON_MIN,
        }
        wrong += [f"{case['reference']}: {name}" for name, held in checks.items() if not held]
    return wrong
