"""Gather the evidence record of a case: what the report states, by pseudonym, with every figure.

The shape is reports/record.py's. Nothing here names the person; free text by staff is included as
written, and the forms say so.
"""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from evaluation.attack_classes import told
from reports.record import REPORT_SCHEMA

from . import measured, registry
from .law import law
from .log_actions import ACTIONS
from .models import (
    Application,
    Case,
    Decision,
    DecisionOutcome,
    Document,
    Kind,
    Target,
    TargetKind,
    User,
    Verification,
)
from .subjects import NOT_FACTS

if TYPE_CHECKING:
    from datetime import datetime

# Where nothing is tested whatever the plan says; the attacks on a model follow from its plan.
OUTSIDE = [
    "Copies of the model, derivatives and backups outside this registry.",
    "Indexes for retrieval and logs of conversations.",
    "Other people's records in which the person may be mentioned without their own name.",
]
_SOFTWARE = ("Django", "torch", "transformers", "weasyprint", "pyHanko", "cryptography")


def gather(case: Case) -> dict[str, Any]:
    """The record of a case that has an outcome."""
    targets = list(case.targets.select_related("model", "dataset").order_by("pk"))
    names = {target.pk: f"T{number}" for number, target in enumerate(targets, 1)}
    stated = [_target(target, names[target.pk]) for target in targets]
    return {
        "schema": REPORT_SCHEMA,
        "case": _case(case),
        "identity": _identity(case),
        "clocks": [_clock(clock) for clock in case.clocks.order_by("due_at")],
        "targets": stated,
        "refusal": _refusal(case),
        "attempts": _attempts(case, names),
        "not_tested": not_tested(stated),
        "notices": [
            {"kind": document.kind, "made_at": _at(document.made_at), "sha256": document.sha256}
            for document in Document.objects.filter(case=case, sent_at__isnull=False)
        ],
        "events": [
            {
                "seq": event.seq,
                "at": _at(event.at),
                "action": ACTIONS[event.action],
                "actor": json.loads(event.leaf)["actor"],
                "digest": event.digest,
            }
            for event in case.events.order_by("seq")
        ],
        "software": {"python": platform.python_version()}
        | {name.lower(): version(name) for name in _SOFTWARE},
        "made_at": _at(timezone.now()),
    }


def _at(moment: datetime | None) -> str:
    if moment is None:
        raise ValueError("a time that the record needs is missing")
    return moment.isoformat(timespec="seconds")


def _who(user: User | None) -> str:
    return "system" if user is None else f"{user.get_role_display()} {user.reference}"


def _case(case: Case) -> dict[str, Any]:
    pack = law(case.law)
    article = pack.removal_article if case.kind == Kind.REMOVAL else pack.correction_article
    return {
        "reference": case.reference,
        "organisation": case.organisation.name,
        "status": case.get_outcome_display(),
        "outcome": case.outcome,
        "kind": case.kind,
        "law": {
            "id": pack.id,
            "name": pack.name,
            "version": case.law_version,
            "articles": [article, pack.deadline["source"]],
            "reviewed": pack.reviewed,
        },
        "received_at": _at(case.received_at),
        "finished_at": _at(timezone.now()),
        "requester": case.pseudonym,
    }


def _identity(case: Case) -> dict[str, Any] | None:
    check = case.identity_checks.filter(confirmed_at__isnull=False).first()
    if check is None:
        return None
    address = "on file" if check.on_file else "given in the request (nobody of that name on file)"
    return {
        "method": f"One-time code to the e-mail address {address}",
        "confirmed_at": _at(check.confirmed_at),
        "confirmed_by": _who(check.confirmed_by),
        "summary": (
            f"The code was entered correctly after {check.attempts} attempt(s) within its ten "
            "minutes. It shows that the mailbox is in the requester's hands, no more."
        ),
    }


def _clock(clock: Any) -> dict[str, Any]:
    return {
        "kind": clock.get_duty_display(),
        "started_at": _at(clock.started_at),
        "due_at": _at(clock.due_at),
        "met_at": None if clock.met_at is None else _at(clock.met_at),
        "source": clock.source,
    }


def latest_decision(target: Target) -> Decision | None:
    """The approved decision, else the newest."""
    decisions = target.decisions.order_by("-pk")
    return decisions.filter(outcome=DecisionOutcome.APPROVED).first() or decisions.first()


def _target(target: Target, name: str) -> dict[str, Any]:
    decision = latest_decision(target)
    application = (
        Application.objects.filter(decision=decision).first() if decision is not None else None
    )
    verification = Verification.objects.filter(application=application).first()
    before, after = _versions(target, application)
    return {
        "id": name,
        "kind": target.kind,
        "name": target.name,
        "version_before": before,
        "version_after": after,
        "findings": _findings(target),
        "decision": None if decision is None else _decision(decision),
        "application": _application(application),
        "verification": None if verification is None else _verification(verification),
    }


def _versions(target: Target, application: Application | None) -> tuple[str, str | None]:
    if application is None or application.finished_at is None:
        return _current(target), None
    return application.version_before.digest, application.version_after.digest


def _current(target: Target) -> str:
    if target.kind == TargetKind.MODEL:
        return registry.current_model(target.language_model).digest
    return registry.current_dataset(target.training_data).digest


def _findings(target: Target) -> dict[str, Any]:
    summary = target.summary
    return {
        "how": summary["how"],
        "probes": summary["probes"],
        "facts_given_out": sum(fact["hits"] > 0 for fact in summary["facts"]),
        "facts": [fact for fact in summary["facts"] if fact["fact"] not in NOT_FACTS],
        "records": summary.get("records"),
        "trace": summary.get("trace"),
    }


def _decision(decision: Decision) -> dict[str, Any]:
    return {
        "measure": decision.measure,
        "method": decision.method,
        "guarantee_class": decision.guarantee_class,
        "proposed_by": _who(decision.proposed_by),
        "proposed_at": _at(decision.proposed_at),
        "decided_by": None if decision.decided_by is None else _who(decision.decided_by),
        "decided_at": None if decision.decided_at is None else _at(decision.decided_at),
        "outcome": decision.get_outcome_display(),
        "criteria": decision.criteria,
        "reasons": decision.reasons,
        "policy_version": decision.policy_version,
    }


def _application(application: Application | None) -> dict[str, Any] | None:
    if application is None or application.finished_at is None:
        return None
    details = application.details
    before, after = _versions(application.target, application)
    return {
        "started_at": _at(application.started_at),
        "finished_at": _at(application.finished_at),
        "seconds": details["seconds"],
        "method": application.decision.method,
        "parameters": application.parameters,
        "seed": application.parameters.get("seed"),
        "hash_before": details.get("hash_before", before),
        "hash_after": details.get("hash_after", after),
        "delta_sha256": application.delta or None,
        "details": _readable(details["details"]) | _way_back(details),
        "software": details.get("software", {}),
    }


def _readable(details: dict[str, Any]) -> dict[str, Any]:
    """Single figures; long lists by their number, curves by their ends, the trace by its site."""
    figures: dict[str, Any] = {}
    for key, value in details.items():
        if key == "trace":
            continue
        if key == "losses":
            figures |= {"first losses": _pairs(value[0]), "last losses": _pairs(value[-1])}
        elif key == "requests":
            figures |= {f"edit {n}": _pairs(row) for n, row in enumerate(value, 1)}
        elif key == "guarantee":
            figures |= {"class": value["class"], "claim": value["claim"]}
            figures |= {name: " ".join(value[name]) for name in ("conditions", "limits")}
        elif isinstance(value, list):
            figures[key] = len(value) if len(value) > 1 else value[0]
        else:
            figures[key] = _pairs(value) if isinstance(value, dict) else value
    return figures


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in values.items()
    )


def _way_back(details: dict[str, Any]) -> dict[str, Any]:
    if "hash_reverted" not in details:
        return {}
    same = details["hash_reverted"] == details["hash_before"]
    return {"revert restores the former hash": "yes, bit for bit" if same else "no"}


def not_tested(targets: list[dict[str, Any]]) -> list[str]:
    """What a case with these targets left untested: attacks on its models, and all outside."""
    by_model = {
        target["name"]: told(measured.SEARCHED, run=False)
        if target["verification"] is None
        else target["verification"]["not_tested"]
        for target in targets
        if target["kind"] == TargetKind.MODEL
    }
    lists = list(by_model.values())
    if all(one == lists[0] for one in lists):
        return [*(lists[0] if lists else []), *OUTSIDE]
    apart = [f"“{name}”: {line}" for name, lines in by_model.items() for line in lines]
    return [*apart, *OUTSIDE]


def _verification(verification: Verification) -> dict[str, Any]:
    application = verification.application
    return {
        "plan_commitment": application.plan_commitment,
        "frozen_at": _at(application.plan_frozen_at),
        "verified_at": _at(verification.verified_at),
        **measured.stated(application, verification),
    }


def _attempts(case: Case, names: dict[int, str]) -> list[dict[str, Any]]:
    """Earlier verifications that did not pass stay in the report."""
    failed = Verification.objects.filter(
        application__target__case=case, passed=False
    ).select_related("application")
    return [
        _verification(verification) | {"target": names[verification.application.target_id]}
        for verification in failed.order_by("pk")
        if latest_decision(verification.application.target) != verification.application.decision
    ]


def _refusal(case: Case) -> dict[str, Any] | None:
    if case.outcome != "refused":
        return None
    decision = case.decisions.get(target__isnull=True, outcome=DecisionOutcome.APPROVED)
    pack = law(case.law)
    ground = pack.ground(decision.ground)
    return {
        "ground": ground.id,
        "article": ground.article,
        "text": ground.text,
        "facts": decision.reasons,
        "proposed_by": _who(decision.proposed_by),
        "decided_by": _who(decision.decided_by),
        "decided_at": _at(decision.decided_at),
        "complaint": pack.complaint,
    }
