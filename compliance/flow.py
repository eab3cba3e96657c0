"""START HERE: how a case moves through the six steps.

    received → identity → targets → method ⇄ approval → application → verification
                                        ↑___________________________________|  (not held)
                                                               verification → documentation → closed

Every change of status is one call of `move`: it checks the table, the role and the guard, sets the
status by compare-and-set, appends to the log and starts the jobs that the new status begins with
(JOBS), all in one transaction. A step never calls another step; the step that serves a status is
named in SERVES.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from . import audit, jobs
from .models import Case, DecisionOutcome, JobKind, JobState, Outcome, Role, TargetState
from .permissions import (
    SYSTEM,
    Actor,
    Allowed,
    Denied,
    Verdict,
    has_role,
    require,
    same_organisation,
)
from .statuses import Status

SERVES = {
    Status.RECEIVED: "compliance.steps.step1_intake",
    Status.IDENTITY: "compliance.steps.step2_identity",
    Status.TARGETS: "compliance.steps.step3_targets",
    Status.METHOD: "compliance.steps.step4_method",
    Status.APPROVAL: "compliance.steps.step4_method",
    Status.APPLICATION: "compliance.steps.step5_application",
    Status.VERIFICATION: "compliance.steps.step6_verification",
    Status.DOCUMENTATION: "compliance.steps.documentation",
    Status.CLOSED: "compliance.steps.documentation",
}

# What a status begins with: one job for the case, or one for each affected target.
JOBS = {
    Status.TARGETS: JobKind.FIND,
    Status.APPLICATION: JobKind.APPLY,
    Status.VERIFICATION: JobKind.VERIFY,
    Status.DOCUMENTATION: JobKind.DOCUMENT,
}
PER_TARGET = (JobKind.APPLY, JobKind.VERIFY)

Guard = Callable[[Case], Verdict]


def _code_sent(case: Case) -> Verdict:
    return Allowed() if case.identity_checks.exists() else Denied("No one-time code was sent yet.")


def _identity_confirmed(case: Case) -> Verdict:
    if case.identity_checks.filter(confirmed_at__isnull=False).exists():
        return Allowed()
    return Denied("The person's identity is not confirmed.")


def _found(case: Case) -> Verdict:
    if case.targets.filter(affected=True).exists():
        return Allowed()
    return Denied("Nothing was found, so there is no measure to select.")


def _all_pending(case: Case) -> Verdict:
    return _no_refusal_pending(case) and _every_target(
        case, DecisionOutcome.PENDING, "A target has no measure proposed yet."
    )


def _all_approved(case: Case) -> Verdict:
    return _no_refusal_pending(case) and _every_target(
        case, DecisionOutcome.APPROVED, "A target's measure is not approved yet."
    )


def _every_target(case: Case, outcome: DecisionOutcome, reason: str) -> Verdict:
    targets = case.targets.filter(affected=True)
    decided = targets.filter(decisions__outcome=outcome).distinct().count()
    return Allowed() if decided == targets.count() > 0 else Denied(reason)


def _targets_in(*states: TargetState) -> Guard:
    def guard(case: Case) -> Verdict:
        if case.targets.filter(affected=True).exclude(state__in=states).exists():
            return Denied("Not every target is ready yet.")
        return Allowed()

    return guard


def _a_target_failed(case: Case) -> Verdict:
    if case.targets.filter(state=TargetState.FAILED).exists():
        return Allowed()
    return Denied("No target failed.")


def _has_outcome(*outcomes: Outcome) -> Guard:
    def guard(case: Case) -> Verdict:
        return Allowed() if case.outcome in outcomes else Denied("The outcome is not decided.")

    return guard


def _verified_or_withdrawn(case: Case) -> Verdict:
    if case.outcome == Outcome.WITHDRAWN:
        return Allowed()
    return _targets_in(TargetState.VERIFIED)(case)


def _rolled_back(case: Case) -> Verdict:
    if case.targets.filter(affected=True, state=TargetState.FOUND).exists() and not case.outcome:
        return Allowed()
    return Denied("No version of this case was rolled back.")


def _no_refusal_pending(case: Case) -> Verdict:
    waiting = case.decisions.filter(target__isnull=True, outcome=DecisionOutcome.PENDING)
    if waiting.exists():
        return Denied("A refusal of this case awaits decision; that comes first.")
    return Allowed()


def _documents_ready(case: Case) -> Verdict:
    if case.documents.count() != 2:
        return Denied("The report and the letter are not written yet.")
    if case.jobs.filter(state__in=(JobState.READY, JobState.RUNNING)).exists():
        return Denied("A job of this case is still under way.")
    return Allowed()


@dataclass(frozen=True)
class Move:
    """One permitted change of status."""

    roles: tuple[Role, ...]
    guard: Guard


_OFFICER = (Role.OFFICER,)
_LEGAL = (Role.LEGAL,)
_SYSTEM = (Role.SYSTEM,)
# Ends without a change: refused by two people, withdrawn by the person, or nothing found.
_ENDED = _has_outcome(Outcome.REFUSED, Outcome.WITHDRAWN, Outcome.NOTHING_FOUND)
_ENDS_EARLY = Move((Role.OFFICER, Role.LEGAL, Role.PERSON), _ENDED)

MOVES: dict[tuple[Status, Status], Move] = {
    (Status.RECEIVED, Status.IDENTITY): Move(_OFFICER, _code_sent),
    (Status.IDENTITY, Status.TARGETS): Move(_OFFICER, _identity_confirmed),
    (Status.TARGETS, Status.METHOD): Move(_OFFICER, _found),
    (Status.METHOD, Status.APPROVAL): Move(_OFFICER, _all_pending),
    (Status.APPROVAL, Status.METHOD): Move(_LEGAL, lambda case: Allowed()),
    (Status.APPROVAL, Status.APPLICATION): Move(_LEGAL, _all_approved),
    (Status.APPLICATION, Status.VERIFICATION): Move(_SYSTEM, _targets_in(TargetState.APPLIED)),
    # A change that was not reached, or did not hold: back to the choice of method, never forward.
    (Status.APPLICATION, Status.METHOD): Move(_SYSTEM, _a_target_failed),
    (Status.VERIFICATION, Status.METHOD): Move(_SYSTEM, _a_target_failed),
    (Status.RECEIVED, Status.DOCUMENTATION): _ENDS_EARLY,
    (Status.IDENTITY, Status.DOCUMENTATION): _ENDS_EARLY,
    (Status.TARGETS, Status.DOCUMENTATION): _ENDS_EARLY,
    (Status.METHOD, Status.DOCUMENTATION): _ENDS_EARLY,
    (Status.APPROVAL, Status.DOCUMENTATION): _ENDS_EARLY,
    # Until a version is promoted the person may still withdraw; the candidate is discarded.
    (Status.APPLICATION, Status.DOCUMENTATION): Move((Role.PERSON,), _ENDED),
    # Also the system's: the verification held.
    (Status.VERIFICATION, Status.DOCUMENTATION): Move(
        (Role.SYSTEM, Role.PERSON), _verified_or_withdrawn
    ),
    # A version that was rolled back before its case was closed: the measure is chosen anew.
    (Status.DOCUMENTATION, Status.METHOD): Move((Role.STEWARD,), _rolled_back),
    (Status.DOCUMENTATION, Status.CLOSED): Move(_OFFICER, _documents_ready),
}


class FlowError(Exception):
    """The move is not in the table, or somebody else moved the case first."""


def locked(case: Case) -> Case:
    """The same case, brought up to date, its row locked until the transaction ends.

    Every act on a case begins with this: what a page had loaded may be old by now, and everything
    that locks a case and other rows has to lock the case first (else two acts wait for each other).
    """
    list(Case.objects.select_for_update().filter(pk=case.pk).values_list("pk"))
    case.refresh_from_db()
    return case


def may_move(case: Case, *, to: Status, actor: Actor) -> Verdict:
    """Whether `move` would succeed now; the reason when not."""
    found = MOVES.get((Status(case.status), to))
    if found is None:
        return Denied(f"A case cannot go from “{case.get_status_display()}” to “{to.label}”.")
    for verdict in (
        same_organisation(actor, case),
        has_role(actor, found.roles),
        found.guard(case),
    ):
        if not verdict:
            return verdict
    return Allowed()


@transaction.atomic
def move(case: Case, *, to: Status, actor: Actor, reason: str = "") -> Case:
    """Change the status. Raises NotAllowed with the reason, or FlowError on a lost race.

    `reason` is a short code or sentence without personal data; it goes into the log.
    """
    source = Status(case.status)
    require(may_move(case, to=to, actor=actor))
    moved = Case.objects.filter(pk=case.pk, status=source).update(status=to)
    if moved != 1:
        raise FlowError("Somebody else moved this case just now. Load it again.")
    case.status = to
    audit.record(
        "case.moved", actor=actor, case=case, source=source.value, to=to.value, reason=reason
    )
    if to in JOBS:
        start_jobs(case, JOBS[to])
    return case


def end_restored(case: Case, *, outcome: Outcome) -> None:
    """Close a case that had been closed and shredded before a backup brought it back.

    No move of the table leads there: nobody acts, and nothing of the person may be used again.
    """
    if case.status == Status.CLOSED:
        return
    jobs.cancel(case, actor=SYSTEM)
    with transaction.atomic():
        source = case.status
        Case.objects.filter(pk=case.pk).update(
            status=Status.CLOSED, outcome=outcome, closed_at=timezone.now()
        )
        case.refresh_from_db()
        audit.record(
            "case.moved",
            actor=SYSTEM,
            case=case,
            source=source,
            to=Status.CLOSED.value,
            reason="shredded before a backup was restored",
        )


def start_jobs(case: Case, kind: JobKind) -> None:
    """Start the jobs of a status: for each affected target, or one for the case."""
    if kind in PER_TARGET:
        for target in case.targets.filter(affected=True).order_by("pk"):
            jobs.start(kind, case=case, target=target)
    else:
        jobs.start(kind, case=case)


@transaction.atomic
def restart_jobs(case: Case, *, actor: Actor) -> None:
    """Start the failed jobs of the case's status again. Raises NotAllowed with the reason."""
    require(same_organisation(actor, case))
    require(has_role(actor, (Role.OFFICER, Role.STEWARD)))
    case = locked(case)
    kind = JOBS.get(Status(case.status))
    newest = {job.target_id: job for job in case.jobs.filter(kind=kind).order_by("created_at")}
    ended = (JobState.FAILED, JobState.CANCELLED)
    waiting = [job for job in newest.values() if job.state in ended]
    require(Allowed() if waiting else Denied("No job of this step has failed."))
    for job in waiting:
        jobs.start(JobKind(job.kind), case=case, target=job.target)
    audit.record("job.restarted", actor=actor, case=case, jobs=len(waiting))
