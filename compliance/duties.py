"""Duties: what must still not come out of any later version of a model.

A candidate comes into force only when every open duty of other cases holds on it; `manage.py
rerun_duties` asks the version in force again. The questions name the person; in place of the values
stand keyed hashes. Both are sealed under a key of their own. It is destroyed on the day that the
policy names, when the case is shredded, when its version is rolled back, or by `end_duty`.
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
    DecisionOutcome,
    Duty,
    DutyOutcome,
    DutyRun,
    LanguageModel,
    ModelVersion,
    TargetKind,
    Verification,
)
from .permissions import SYSTEM, Actor

if TYPE_CHECKING:
    from django.db.models import QuerySet


def open_for(case: Case) -> None:
    """Open a duty for each model of a case whose change was verified."""
    for application in Application.objects.filter(
        target__case=case,
        target__kind=TargetKind.MODEL,
        verification__passed=True,
        # An earlier attempt, or a version that was rolled back, is no longer what was decided.
        decision__outcome=DecisionOutcome.APPROVED,
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


def record(version: ModelVersion, found: list[dict[str, Any]]) -> list[DutyRun]:
    """Keep what asking again found; returns what does not hold."""
    runs = []
    for row in found:
        duty = Duty.objects.get(pk=row["id"])
        figures = {name: row[name] for name in ("outcome", "reason", "hits", "asked", "upper_95")}
        runs.append(
            DutyRun.objects.create(duty=duty, version=version, ran_at=timezone.now(), **figures)
        )
        _log("duty.rerun", duty, version=version.digest, outcome=row["outcome"])
    return [run for run in runs if run.outcome != DutyOutcome.HELD]


def rerun(version: ModelVersion) -> list[DutyRun]:
    """Ask every open duty of a version's model again; returns what does not hold.

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


def end_of(case: Case, *, actor: Actor) -> int:
    """End the duties of a case before their day; returns how many. In the caller's transaction."""
    still_open = list(Duty.objects.filter(reference=case.reference, ended_at__isnull=True))
    for duty in still_open:
        _end(duty, actor)
    return len(still_open)


def drop(case: Case, *, actor: Actor) -> None:
    """End a case's duties and forget what was asked for them: its change is taken back."""
    end_of(case, actor=actor)
    Duty.objects.filter(reference=case.reference).delete()


def end_due() -> None:
    """End the duties whose day is over; `shredding.finish` removes their files."""
    over = Duty.objects.filter(ended_at__isnull=True, ends_on__lt=timezone.localdate())
    for duty in over:
        with transaction.atomic():
            _end(duty, SYSTEM)


def _end(duty: Duty, actor: Actor) -> None:
    vault.destroy(str(duty.key_id))
    duty.ended_at = timezone.now()
    duty.save(update_fields=["ended_at"])
    _log("duty.ended", duty, actor=actor)
    # What cannot be removed now is removed by shredding.finish.
    transaction.on_commit(lambda: store.remove_artefact(duty.sealed), robust=True)


def _log(action: str, duty: Duty, *, actor: Actor = SYSTEM, **facts: Any) -> None:
    """Not under a case: that of the duty is over, and another has no part in it."""
    organisation = duty.model.organisation.slug
    audit.record(action, actor=actor, duty=duty.pk, organisation=organisation, **facts)
