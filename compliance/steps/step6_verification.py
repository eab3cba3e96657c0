"""Step 6, verification: the candidate measured against the plan frozen before the change.

All thresholds held for all targets, and every open duty of earlier cases on the same models: the
candidates come into force. Otherwise they are discarded and the case goes back to method selection
with its figures, never forward.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from compliance import audit, duties, flow, jobs, policy, registry, store
from compliance.jobs import Step
from compliance.models import (
    Application,
    Case,
    DecisionOutcome,
    DutyOutcome,
    Job,
    Outcome,
    Target,
    TargetKind,
    TargetState,
    Verification,
)
from compliance.permissions import SYSTEM, NotAllowed
from compliance.statuses import Status
from compliance.subjects import person

DUTY_BROKEN = (
    "Not held. What an earlier case asked to be taken out comes out of this version again."
)
DUTY_UNKNOWN = (
    "Whether what earlier cases asked to be taken out comes out of this version again could not "
    "be told."
)


def _application(target: Target) -> Application:
    return Application.objects.get(
        decision__target=target, decision__outcome=DecisionOutcome.APPROVED
    )


def prepare(job: Job) -> dict[str, Any]:
    """What the child process is to measure."""
    target = job.on
    application = _application(target)
    plan = store.get_json(application.plan)
    if target.kind == TargetKind.MODEL:
        return {
            "operation": "verify_model",
            "plan": plan,
            "before": application.before,
            "path": str(store.model_path(application.version_after.digest)),
            "digest": application.version_after.digest,
            "thresholds": policy.policy().thresholds,
            "duties": duties.for_child(target.language_model, besides=target.case.reference),
        }
    return {
        "operation": "verify_dataset",
        "before": application.before,
        "person": person(target.case),
        "records_before": store.get_dataset(application.version_before.digest).decode(),
        "records_after": store.get_dataset(application.version_after.digest).decode(),
        **plan,
    }


def record(job: Job, result: dict[str, Any]) -> None:
    """Keep the figures; when every target is measured, promote all or discard all."""
    target = job.on
    verdict = {**result["verdict"]}  # the result may come again when the database was away
    candidate = _application(target).model_after
    asked = [] if candidate is None else duties.record(candidate, result.get("duties", []))
    broken = [run for run in asked if run.outcome != DutyOutcome.HELD]
    passed = verdict["passed"] and not broken
    if broken:
        # Nothing of another case stands in this one: neither its reference nor its figures.
        surely = any(run.outcome == DutyOutcome.RESURFACED for run in broken)
        told = DUTY_BROKEN if surely else DUTY_UNKNOWN
        verdict["reasons"] = [*verdict["reasons"], told]
        verdict["outcome"] = "failed" if surely else "unknown"
    Verification.objects.create(
        application=_application(target),
        after=result["after"],
        verdict=verdict,
        passed=passed,
        verified_at=timezone.now(),
    )
    target.state = TargetState.VERIFIED if passed else TargetState.FAILED
    target.save(update_fields=["state"])
    case = target.case
    audit.record(
        "change.verified",
        actor=SYSTEM,
        case=case,
        target=target.pk,
        passed=passed,
        plan=_application(target).plan_commitment,
    )
    affected = case.targets.filter(affected=True)
    if affected.filter(state=TargetState.APPLIED).exists():
        return
    if affected.filter(state=TargetState.FAILED).exists():
        _back_to_method(case, "verification did not hold")
        return
    try:
        with transaction.atomic():
            registry.promote(case)
    except NotAllowed:
        # The version in force is another than the one that was changed: measure anew from it.
        _back_to_method(case, "another version came into force")
        return
    duties.open_for(case)
    case.outcome = Outcome.FULFILLED
    case.save(update_fields=["outcome"])
    flow.move(case, to=Status.DOCUMENTATION, actor=SYSTEM, reason="verification held")


def failed(job: Job, reason: str) -> None:
    """The candidate could not be measured: what is not verified does not come into force."""
    target = job.on
    target.state = TargetState.FAILED
    target.save(update_fields=["state"])
    jobs.cancel(job.case, actor=SYSTEM)
    _back_to_method(job.case, "not measured")


def _back_to_method(case: Case, reason: str) -> None:
    case.targets.filter(affected=True).update(state=TargetState.FAILED)
    registry.discard_candidates(case)
    flow.move(case, to=Status.METHOD, actor=SYSTEM, reason=reason)


STEPS = (Step("measure", record, prepare),)
