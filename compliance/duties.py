"""Duties that outlive a case: what must still not come out of any later version of a model.

A new version comes into force only when every open duty of its model holds on it; `manage.py
rerun_duties` asks the version in force again. Prompts and hashes are sealed under a key of their
own, which is destroyed on the day that the policy names when the duty is opened.
"""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from evaluation import Plan
from evaluation.resurfacing import duty as duty_of

from . import audit, child, policy, store, vault
from .models import (
    Application,
    Case,
    Duty,
    DutyOutcome,
    DutyRun,
    LanguageModel,
    ModelVersion,
    TargetKind,
    Verification,
)
from .permissions import SYSTEM

if TYPE_CHECKING:
    from django.db.models import QuerySet


def open_for(case: Case) -> None:
    """Open a duty for each model of a case whose change was verified."""
    for application in Application.objects.filter(
        target__case=case, target__kind=TargetKind.MODEL, verification__passed=True
    ):
        plan = Plan.from_dict(store.get_json(application.plan))
        groups = Verification.objects.get(application=application).after["groups"]
        if "leak" in groups:
            _open(case, application, plan, groups)


def _open(case: Case, application: Application, plan: Plan, groups: dict[str, Any]) -> None:
    rules = policy.policy()
    key = vault.new_duty_key()
    today = timezone.localdate()
    ends_on = today + timedelta(days=rules.duties["days"])
    chance = groups["control"]["rate"] if "control" in groups else 0.0
    kept = duty_of(
        plan,
        key.key,
        model=application.target.name,
        basis=rules.duties["basis"],
        ends_on=ends_on,
        hits=groups["leak"]["hits"],
        leak_max=rules.thresholds["leak_max"] + chance,
        most=rules.duties["probes"],
    )
    made = Duty.objects.create(
        reference=case.reference,
        model=application.target.language_model,
        sealed=store.put(kept.sealed(key.key), key),
        key_id=key.id,
        basis=kept.basis,
        opened_at=timezone.now(),
        ends_on=ends_on,
    )
    audit.record("duty.opened", actor=SYSTEM, case=case, duty=made.pk, ends=ends_on.isoformat())


def open_duties(model: LanguageModel) -> QuerySet[Duty]:
    """The duties that a version of this model must hold."""
    return model.duties.filter(ended_at__isnull=True, ends_on__gte=timezone.localdate())


def for_child(model: LanguageModel, *, besides: str = "") -> list[dict[str, Any]]:
    """The open duties as the heavy step needs them; `besides`: the reference of a case left out."""
    return [
        {
            "id": duty.pk,
            "sealed": base64.b64encode(store.get(duty.sealed)).decode(),
            "key": base64.b64encode(vault.key_named(str(duty.key_id)).key).decode(),
            "today": timezone.localdate().isoformat(),
        }
        for duty in open_duties(model).exclude(reference=besides).order_by("pk")
    ]


def record(version: ModelVersion, found: list[dict[str, Any]]) -> list[str]:
    """Keep what asking again found; returns why the version does not hold, nothing when it does."""
    reasons = []
    for row in found:
        duty = Duty.objects.get(pk=row["id"])
        figures = {name: row[name] for name in ("outcome", "reason", "hits", "asked", "upper_95")}
        DutyRun.objects.create(duty=duty, version=version, ran_at=timezone.now(), **figures)
        audit.record(
            "duty.rerun",
            actor=SYSTEM,
            duty=duty.pk,
            digest=version.digest,
            outcome=row["outcome"],
        )
        if row["outcome"] != DutyOutcome.HELD:
            reasons.append(f"The duty of {duty.reference} is {row['outcome']}. {row['reason']}")
    return reasons


def rerun(version: ModelVersion) -> list[str]:
    """Ask every open duty of a version's model again; returns why it does not hold.

    Raises child.StepFailed, StepCrashed or StepHindered when the questions could not be put.
    """
    asked = for_child(version.model)
    if not asked:
        return []
    path = str(store.model_path(version.digest))
    request = {"operation": "rerun_duties", "path": path, "duties": asked}
    found = child.run(request, lambda _progress: True)
    with transaction.atomic():
        return record(version, found["duties"])


def end_due() -> None:
    """Destroy the keys and questions of duties whose day is over."""
    over = Duty.objects.filter(ended_at__isnull=True, ends_on__lt=timezone.localdate())
    for duty in over:
        with transaction.atomic():
            vault.destroy(str(duty.key_id))
            duty.ended_at = timezone.now()
            duty.save(update_fields=["ended_at"])
            audit.record("duty.ended", actor=SYSTEM, duty=duty.pk)
        store.artefact_path(duty.sealed).unlink(missing_ok=True)
