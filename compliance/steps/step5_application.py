"""Step 5, application: one job per target carries out the approved measure.

Two effects: the plan of verification is frozen and logged before anything changes; then the change
gives a new, content-addressed candidate version. The version in force is not touched.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from compliance import audit, flow, jobs, registry, store, vault
from compliance.jobs import Step
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


def _approved(target: Target) -> Decision:
    return target.decisions.get(outcome=DecisionOutcome.APPROVED)


def plan(job: Job) -> dict[str, Any]:
    """The plan of verification, kept sealed.

    Raises jobs.Postponed while another change of the same model or dataset is under way.
    """
    target = job.on
    _wait_for_others(target)
    decision = _approved(target)
    made = plan_for(target, decision) if target.model else dataset_plan(target, decision)
    return {
        "plan": store.put_json(made, vault.key_of(job.case)),
        # A plan names the person and the values, so the log goes by a keyed digest of it.
        "commitment": vault.commitment(job.case, "plan", audit.canonical(made)),
    }


def freeze(job: Job, result: dict[str, Any]) -> None:
    """From here on the measure is judged by this plan; the version it is applied to is fixed."""
    target = job.on
    model, dataset = target.model, target.dataset
    # A job that was started anew after its failure keeps the plan that was frozen first.
    application, made = Application.objects.get_or_create(
        decision=_approved(target),
        defaults={
            "target": target,
            "plan": result["plan"],
            "plan_commitment": result["commitment"],
            "plan_frozen_at": timezone.now(),
            "started_at": timezone.now(),
        },
    )
    application.model_before = registry.current_model(model) if model else None
    application.dataset_before = registry.current_dataset(dataset) if dataset else None
    application.save(update_fields=["model_before", "dataset_before"])
    if made:
        approver = _approved(target).decided_by
        audit.record(
            "plan.frozen",
            actor=SYSTEM,
            case=job.case,
            target=target.pk,
            plan=application.plan_commitment,
            # The plan stands on the word of who approved the measure, not of who carries it out.
            approved_by=None if approver is None else approver.reference,
        )


def prepare(job: Job) -> dict[str, Any]:
    """What the child process is to change."""
    target = job.on
    application = Application.objects.get(decision=_approved(target))
    if target.kind == TargetKind.MODEL:
        return _model_request(job, application)
    return _dataset_request(application)


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


def _model_request(job: Job, application: Application) -> dict[str, Any]:
    target, decision = application.target, application.decision
    key = vault.key_of(job.case)
    folder = settings.WORK_DIR / str(job.pk) / str(job.fence) / "model"
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    wordings = store.get_json(target.language_model.wordings)
    common = {
        "operation": "apply_model",
        "path": str(store.model_path(application.version_before.digest)),
        "folder": str(folder),
        "method": decision.method,
        "plan": store.get_json(application.plan),
        "seal": {"key": base64.b64encode(key.key).decode(), "id": key.id},
        "person": person(target.case),
    }
    if decision.method == "rome":
        return common | {
            "wordings": wordings,
            "changes": new_values(target, decision, wordings),
            "neighbours": neighbours(target, decision, wordings),
        }
    return common | unlearning_texts(target, decision, wordings)


def _dataset_request(application: Application) -> dict[str, Any]:
    return {
        "operation": "apply_dataset",
        "records": store.get_dataset(application.version_before.digest).decode(),
        "person": person(application.target.case),
        **store.get_json(application.plan),
    }


def record(job: Job, result: dict[str, Any]) -> None:
    """Keep the candidate version and what was measured before it."""
    target = job.on
    application = Application.objects.get(decision=_approved(target))
    keep = _keep_model if target.kind == TargetKind.MODEL else _keep_dataset
    version = keep(target, application, result)
    application.before = result["before"]
    details = dict(result["details"])
    application.parameters = details.pop("config", {})
    application.details = {"details": details} | {
        key: result[key]
        for key in ("hash_before", "hash_after", "hash_reverted", "seconds", "software")
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


def keep(result: dict[str, Any]) -> dict[str, Any]:
    """Put what was made into the store: named by its content, so that doing it again is fine."""
    if "records" in result:
        return result | {"digest": store.put_dataset(result["records"].encode())}
    delta = Path(result["delta"])
    kept = store.put_sealed(delta.read_bytes())
    store.adopt_model(Path(result["folder"]), result["digest"])
    delta.unlink()
    return result | {"delta": kept}


def _keep_model(target: Target, application: Application, result: dict[str, Any]) -> ModelVersion:
    application.delta = result["delta"]
    version = ModelVersion.objects.create(
        model=target.language_model,
        digest=result["digest"],
        parent=application.model_before,
        state=VersionState.CANDIDATE,
        made_for=target,
        case=target.case,
        created_at=timezone.now(),
    )
    application.model_after = version
    return version


def _keep_dataset(
    target: Target, application: Application, result: dict[str, Any]
) -> DatasetVersion:
    version = DatasetVersion.objects.create(
        dataset=target.training_data,
        digest=result["digest"],
        records=result["count"],
        parent=application.dataset_before,
        state=VersionState.CANDIDATE,
        made_for=target,
        case=target.case,
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


STEPS = (Step("freeze", freeze, plan, heavy=False), Step("change", record, prepare, keep=keep))
