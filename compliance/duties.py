"""Duties: what must still not come out of any later version of a model.

A candidate comes into force only when every open duty of other cases holds on it; `manage.py
rerun_duties` asks the version in force again. The questions name the person; in place of the values
stand keyed hashes. Both are sealed under a key of their own. It is destroyed on the day that the
policy names, when the case is shredded, when its version is rolled back, or by hand: then a
tombstone keeps a restored backup from undoing what somebody decided.

The log serialises its appends, so a transaction locks all duties it needs before it records the
first event: else two that end or ask duties at once could wait for each other.
"""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from evaluation import Measurement, Plan, Thresholds
from evaluation.criteria import controls_of
from evaluation.resurfacing import duty as duty_of

from . import audit, child, policy, store, tombstones, vault
from .envelope import SealError
from .models import (
    Application,
    Case,
    DecisionOutcome,
    Duty,
    DutyEnd,
    DutyOutcome,
    DutyRun,
    KeyPurpose,
    LanguageModel,
    ModelVersion,
    Role,
    TargetKind,
    Verification,
    VersionState,
)
from .permissions import SYSTEM, Actor, NotAllowed, has_role, require, same_organisation

if TYPE_CHECKING:
    from django.db.models import QuerySet


def open_for(case: Case) -> None:
    """Open a duty for each model of a case whose change was verified.

    None for a person who objected, however often the change is made anew. Raises KeyUnavailable.
    """
    if _objected(case):
        return
    for application in Application.objects.filter(
        target__case=case,
        target__kind=TargetKind.MODEL,
        verification__passed=True,
        # An earlier attempt, or a version that was rolled back, is no longer what was decided.
        decision__outcome=DecisionOutcome.APPROVED,
    ):
        after = _measured(Verification.objects.get(application=application).after)
        if "leak" in after.groups:
            _open(case, application, after)


def _objected(case: Case) -> bool:
    """By what is kept beside the keys: a rollback forgets the duty itself."""
    return any(
        stone.case == case.reference and stone.outcome == DutyEnd.OBJECTION
        for stone in _tombstones()
    )


def _tombstones() -> list[tombstones.Tombstone]:
    return [one for one in tombstones.all_of_them() if one.purpose == KeyPurpose.DUTY]


def _measured(stored: Any) -> Measurement:
    """What was kept of a measurement: all but the digest of its plan."""
    return Measurement.from_dict({**stored, "plan_digest": ""})


def _open(case: Case, application: Application, after: Measurement) -> None:
    rules = policy.policy()
    key = vault.new_duty_key()
    plan = Plan.from_dict(store.get_json(application.plan))
    ends_on = timezone.localdate() + timedelta(days=rules.duties["days"])
    kept = duty_of(
        plan,
        key.key,
        model=application.target.name,
        basis=rules.duties["basis"],
        ends_on=ends_on,
        hits=after.groups["leak"].hits,
        empty=after.texts.empty_by_group.get("leak", 0),
        leak_max=_allowed(plan) + _chance(_measured(application.before), after),
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


def _allowed(plan: Plan) -> float:
    """As demanded when the plan was frozen; plans of earlier versions do not say."""
    return Thresholds.from_mapping(plan.thresholds or policy.policy().thresholds).leak_max


def _chance(before: Measurement, after: Measurement) -> float:
    """What the verdict took for chance."""
    return min((one.rate for one in controls_of("leak", before, after)), default=0.0)


def open_duties(model: LanguageModel) -> QuerySet[Duty]:
    """The duties that a version of this model must hold."""
    return model.duties.filter(ended_at__isnull=True, ends_on__gte=timezone.localdate())


def for_child(model: LanguageModel, *, besides: str = "") -> list[dict[str, Any]]:
    """The open duties as the heavy step needs them; `besides`: the reference of a case left out.

    What cannot be read goes with its problem: it is unknown, and keeps no other from being asked.
    """
    still_open = open_duties(model).exclude(reference=besides).order_by("pk")
    return [{"id": duty.pk, **_for_child(duty)} for duty in still_open]


def _for_child(duty: Duty) -> dict[str, str]:
    try:
        sealed, key = store.get(duty.sealed), vault.key_named(str(duty.key_id)).key
    except (store.StoreError, SealError) as error:
        return {"problem": str(error)}
    return {
        "sealed": base64.b64encode(sealed).decode(),
        "key": base64.b64encode(key).decode(),
        "today": timezone.localdate().isoformat(),
    }


def record(version: ModelVersion, found: list[dict[str, Any]]) -> list[DutyRun]:
    """Keep what asking again found, of the duties that are still open."""
    asked = open_duties(version.model).filter(pk__in=[row["id"] for row in found])
    still_open = {duty.pk: duty for duty in asked.select_for_update().order_by("pk")}
    runs = []
    for row in found:
        duty = still_open.get(row["id"])
        if duty is None:
            continue
        figures = {name: row[name] for name in ("outcome", "reason", "hits", "asked", "upper_95")}
        runs.append(
            DutyRun.objects.create(duty=duty, version=version, ran_at=timezone.now(), **figures)
        )
        _log("duty.rerun", duty, version=version.digest, outcome=row["outcome"])
    return runs


def rerun(version: ModelVersion) -> list[DutyRun]:
    """Ask every open duty of a version's model again.

    Raises child.StepFailed, StepCrashed or StepHindered when the questions could not be put, and
    KeyUnavailable.
    """
    request = {
        "operation": "rerun_duties",
        "path": str(store.model_path(version.digest)),
        "digest": version.digest,
        "duties": for_child(version.model),
    }
    found = child.run(request, lambda _progress: True)
    with transaction.atomic():
        return record(version, found["duties"])


def in_the_way(model: LanguageModel) -> list[tuple[Case, DutyRun]]:
    """Open cases with what keeps their change out of force: of each duty the newest run.

    Of every attempt of the case: a later one may have come into force.
    """
    runs = DutyRun.objects.filter(
        duty__in=open_duties(model),
        version__case__isnull=False,
        version__case__closed_at__isnull=True,
    ).select_related("duty", "version__case")
    newest: dict[tuple[Case, Duty], DutyRun] = {}
    for run in runs.order_by("ran_at", "pk"):
        if run.version.case is not None:
            newest[run.version.case, run.duty] = run
    return [
        (case, run)
        for (case, _), run in newest.items()
        if run.outcome != DutyOutcome.HELD and run.version.state == VersionState.DISCARDED
    ]


@transaction.atomic
def end_by_hand(
    case: Case, *, actor: Actor, reason: DutyEnd, via: Literal["page", "command"]
) -> int:
    """End the duties of a case because somebody in legal decided so; returns how many.

    via: an account's own act on its page, or the operator's in its name; the log tells them apart.
    Raises NotAllowed, also where none is open, and KeyUnavailable where that cannot be kept beside
    the keys.
    """
    require(same_organisation(actor, case))
    require(has_role(actor, (Role.LEGAL,)))
    still_open = _still_open(Q(reference=case.reference))
    if not still_open:
        raise NotAllowed("This case has no open duty.")
    for duty in still_open:
        _bury(duty, actor, reason)
        _end(duty, actor, reason=reason, via=via)
    return len(still_open)


def end_of(case: Case, *, actor: Actor) -> None:
    """End the duties of a case before their day. In the caller's transaction."""
    for duty in _still_open(Q(reference=case.reference)):
        _end(duty, actor)


def lock(case: Case) -> None:
    """Lock a case's duties in a transaction that records other events before it drops them."""
    list(Duty.objects.select_for_update().filter(reference=case.reference).order_by("pk"))


def drop(case: Case, *, actor: Actor) -> None:
    """End a case's duties and forget what was asked for them: its change is taken back."""
    end_of(case, actor=actor)
    Duty.objects.filter(reference=case.reference).delete()


@transaction.atomic
def end_due() -> None:
    """End the duties whose day is over, and those that a backup brought back.

    `shredding.finish` removes their files.
    """
    stones = {stone.key: stone for stone in _tombstones()}
    for duty in _still_open(Q(key__in=stones) | Q(ends_on__lt=timezone.localdate())):
        stone = stones.get(str(duty.key_id))
        if stone is None:
            _end(duty, SYSTEM)
        else:
            _end(duty, SYSTEM, reason=stone.outcome, via="tombstone", decided_by=stone.by)


def _still_open(which: Q) -> list[Duty]:
    """Locked, so that each ends once and nothing is recorded of it after."""
    found = Duty.objects.select_for_update().filter(which, ended_at__isnull=True)
    return list(found.order_by("pk"))


def _bury(duty: Duty, actor: Actor, reason: DutyEnd) -> None:
    """From here on the duty is ended, whatever becomes of this process or this database."""
    tombstones.add(
        tombstones.Tombstone(
            case=duty.reference,
            organisation=duty.model.organisation.slug,
            key=str(duty.key_id),
            outcome=reason,
            at=timezone.now().isoformat(timespec="seconds"),
            by=actor.reference,
            purpose=KeyPurpose.DUTY,
        )
    )


def _end(duty: Duty, actor: Actor, **facts: Any) -> None:
    vault.destroy(str(duty.key_id))
    duty.ended_at = timezone.now()
    duty.save(update_fields=["ended_at"])
    _log("duty.ended", duty, actor=actor, **facts)
    # What cannot be removed now is removed by shredding.finish.
    transaction.on_commit(lambda: store.remove_artefact(duty.sealed), robust=True)


def _log(action: str, duty: Duty, *, actor: Actor = SYSTEM, **facts: Any) -> None:
    """Not under a case: that of the duty is over, and another has no part in it."""
    organisation = duty.model.organisation.slug
    audit.record(action, actor=actor, duty=duty.pk, organisation=organisation, **facts)
