"""Step 5, application: one job per target carries out the approved measure.

The plan of verification is frozen and logged before anything changes. The result is a new,
content-addressed candidate version; the version in force is not touched.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from compliance import audit, flow, jobs, registry, store, vault
from compliance.measure_plan import dataset_plan, neighbours, new_values, plan_for, unlearning_texts
from compliance.models import (
    Application,
    Case,
    DatasetVersion,
    Decision,
    DecisionOutcome,
    Job,
    ModelVersion,
    Target,
    TargetKind,
    TargetState,
    VersionState,
)
from compliance.permissions import SYSTEM
from compliance.statuses import Status
from compliance.subjects import person


def prepare(job: Job) -> dict[str, Any]:
    """Freeze the plan, then say what the child process is to do.

    Raises jobs.Postponed while another change of the same model or dataset is under way.
    """
    target = job.on
    _wait_for_others(target)
    decision = target.decisions.get(outcome=DecisionOutcome.APPROVED)
    application = Application.objects.filter(decision=decision).first()
    if application is None:
        application = _freeze(target, decision)
    if target.kind == TargetKind.MODEL:
        return _model_request(job, application)
    return _dataset_request(job, application)


def _wait_for_others(target: Target) -> None:
    """One change of a model or dataset at a time, in the order of approval.

    A case waits for every earlier one that shares any of its targets, not only this one: two
    cases that each held what the other waits for would wait for ever.
    """
    case = target.case
    mine = case.targets.filter(affected=True)
    sharing = (
        Case.objects.filter(status__in=(Status.APPLICATION, Status.VERIFICATION))
        .filter(
            Q(targets__model__in=mine.values("model"))
            | Q(targets__dataset__in=mine.values("dataset")),
            targets__affected=True,
        )
        .exclude(pk=case.pk)
        .distinct()
    )
    if any(_approval(other) < _approval(case) for other in sharing):
        raise jobs.Postponed("Waiting for an earlier change of the same model or dataset")


def _approval(case: Case) -> tuple[Any, int]:
    approved = case.decisions.filter(outcome=DecisionOutcome.APPROVED)
    return approved.latest("decided_at").decided_at, case.pk


def _freeze(target: Target, decision: Decision) -> Application:
    plan = plan_for(target, decision) if target.model else dataset_plan(target, decision)
    with transaction.atomic():
        application = Application.objects.create(
            target=target,
            decision=decision,
            plan=store.put_json(plan["plan"]),
            plan_digest=plan["digest"],
            plan_frozen_at=timezone.now(),
            started_at=timezone.now(),
        )
        audit.record(
            "plan.frozen",
            actor=SYSTEM,
            case=target.case,
            target=target.pk,
            plan=application.plan_digest,
        )
    return application


def _model_request(job: Job, application: Application) -> dict[str, Any]:
    target, decision = application.target, application.decision
    version = registry.current_model(target.language_model)
    application.model_before = version
    application.save(update_fields=["model_before"])
    key = vault.new_data_key()
    folder = settings.WORK_DIR / str(job.pk) / str(job.fence) / "model"
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    wordings = store.get_json(target.language_model.wordings)
    common = {
        "operation": "apply_model",
        "path": str(store.model_path(version.digest)),
        "folder": str(folder),
        "method": decision.method,
        "plan": store.get_json(application.plan),
        "seal": {"key": base64.b64encode(key.key).decode(), "wrapped": key.wrapped},
        "person": person(target.case),
    }
    if decision.method == "rome":
        return common | {
            "wordings": wordings,
            "changes": new_values(target, decision, wordings),
            "neighbours": neighbours(target, decision, wordings),
        }
    return common | unlearning_texts(target, decision, wordings)


def _dataset_request(job: Job, application: Application) -> dict[str, Any]:
    target, _decision = application.target, application.decision
    version = registry.current_dataset(target.training_data)
    application.dataset_before = version
    application.save(update_fields=["dataset_before"])
    return {
        "operation": "apply_dataset",
        "records": store.get_dataset(version.digest).decode(),
        "person": person(target.case),
        **store.get_json(application.plan),
    }


def record(job: Job, result: dict[str, Any]) -> None:
    """Keep the candidate version and what was measured before it."""
    target = job.on
    application = Application.objects.select_for_update().get(
        decision__target=target, decision__outcome=DecisionOutcome.APPROVED
    )
    keep = _keep_model if target.kind == TargetKind.MODEL else _keep_dataset
    version = keep(target, application, result)
    application.before = result["before"]
    application.parameters = result["details"].pop("config", {})
    application.details = {
        key: result[key]
        for key in ("details", "hash_before", "hash_after", "hash_reverted", "seconds", "software")
        if key in result
    }
    application.finished_at = timezone.now()
    application.save()
    target.state = TargetState.APPLIED
    target.save(update_fields=["state"])
    audit.record(
        "change.applied",
        actor=SYSTEM,
        case=target.case,
        target=target.pk,
        before=application.version_before.digest,
        after=version.digest,
        delta=application.delta,
    )
    waiting = target.case.targets.filter(affected=True).exclude(state=TargetState.APPLIED)
    if not waiting.exists():
        flow.move(target.case, to=Status.VERIFICATION, actor=SYSTEM)


def _keep_model(target: Target, application: Application, result: dict[str, Any]) -> ModelVersion:
    delta = Path(result["delta"])
    application.delta = store.put_sealed(delta.read_bytes())
    delta.unlink()
    store.adopt_model(Path(result["folder"]), result["digest"])
    version = ModelVersion.objects.create(
        model=target.language_model,
        digest=result["digest"],
        parent=application.model_before,
        state=VersionState.CANDIDATE,
        made_for=target,
        created_at=timezone.now(),
    )
    application.model_after = version
    return version


def _keep_dataset(
    target: Target, application: Application, result: dict[str, Any]
) -> DatasetVersion:
    version = DatasetVersion.objects.create(
        dataset=target.training_data,
        digest=store.put_dataset(result["records"].encode()),
        records=result["count"],
        parent=application.dataset_before,
        state=VersionState.CANDIDATE,
        made_for=target,
        created_at=timezone.now(),
    )
    application.dataset_after = version
    return version


def failed(job: Job, reason: str) -> None:
    """The measure was not reached: back to the choice of method, nothing half-done."""
    target = job.on
    target.state = TargetState.FAILED
    target.save(update_fields=["state"])
    jobs.cancel(job.case, actor=SYSTEM)
    registry.discard_candidates(job.case)
    flow.move(job.case, to=Status.METHOD, actor=SYSTEM, reason="measure not reached")
