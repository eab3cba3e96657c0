"""How a case ends without a change: refused on a legal ground, withdrawn, or nothing found."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from compliance import audit, flow, jobs, registry
from compliance.decisions import require_four_eyes, require_reasons
from compliance.law import law
from compliance.models import Case, Decision, DecisionOutcome, Outcome, Role
from compliance.permissions import (
    Actor,
    Allowed,
    Denied,
    NotAllowed,
    has_role,
    require,
    same_organisation,
)
from compliance.statuses import Status

REFUSABLE = (Status.RECEIVED, Status.IDENTITY, Status.TARGETS, Status.METHOD, Status.APPROVAL)
WITHDRAWABLE = (*REFUSABLE, Status.APPLICATION, Status.VERIFICATION)


def pending_refusal(case: Case) -> Decision | None:
    """The refusal that awaits legal's decision, if any."""
    return case.decisions.filter(target__isnull=True, outcome=DecisionOutcome.PENDING).first()


def may_propose_refusal(case: Case, actor: Actor) -> Allowed | Denied:
    """An officer or legal may, before a change is approved."""
    for verdict in (same_organisation(actor, case), has_role(actor, (Role.OFFICER, Role.LEGAL))):
        if not verdict:
            return verdict
    if case.status not in REFUSABLE:
        return Denied(f"A case in “{case.get_status_display()}” can no longer be refused.")
    if pending_refusal(case):
        return Denied("A refusal of this case awaits decision already.")
    return Allowed()


@transaction.atomic
def propose_refusal(case: Case, *, actor: Actor, ground: str, facts: str) -> Decision:
    """Propose a refusal on a ground of the case's law, with the facts. Raises NotAllowed.

    The ground and the facts are told to the person (GDPR Art. 12(4)).
    """
    case = flow.locked(case)
    require(may_propose_refusal(case, actor))
    require_reasons(facts)
    try:
        chosen = law(case.law).ground(ground)
    except KeyError:
        raise NotAllowed("Choose a ground that the law of this case knows.") from None
    decision = Decision.objects.create(
        case=case,
        ground=chosen.id,
        reasons=facts.strip(),
        proposed_by=actor.user,
        proposed_at=timezone.now(),
        outcome=DecisionOutcome.PENDING,
    )
    audit.record("refusal.proposed", actor=actor, case=case, ground=chosen.id)
    return decision


@transaction.atomic
def decide_refusal(decision: Decision, *, actor: Actor, approve: bool, reasons: str) -> Decision:
    """Another person in legal approves the refusal, which ends the case, or returns it."""
    case = flow.locked(decision.case)
    require(same_organisation(actor, case))
    require_four_eyes(decision, actor)
    require_reasons(reasons)
    outcome = DecisionOutcome.APPROVED if approve else DecisionOutcome.RETURNED
    decided = Decision.objects.filter(pk=decision.pk, outcome=DecisionOutcome.PENDING).update(
        outcome=outcome, decided_by=actor.user, decided_at=timezone.now()
    )
    require(Allowed() if decided == 1 else Denied("This refusal was decided already."))
    decision.refresh_from_db()
    decision.decision_reasons = reasons.strip()
    decision.save(update_fields=["decision_reasons"])
    audit.record(
        "refusal.approved" if approve else "refusal.returned",
        actor=actor,
        case=case,
        ground=decision.ground,
    )
    if approve:
        _end(case, Outcome.REFUSED, actor)
    return decision


@transaction.atomic
def withdraw(case: Case, *, actor: Actor) -> Case:
    """The person takes the request back; a candidate version is discarded. Raises NotAllowed."""
    require(has_role(actor, (Role.PERSON,)))
    # A job that records its candidate now is seen here, or does not record.
    case = flow.locked(case)
    if case.status not in WITHDRAWABLE:
        raise NotAllowed("The request can no longer be withdrawn: the answer is being written.")
    audit.record("case.withdrawn", actor=actor, case=case)
    jobs.cancel(case, actor=actor)
    registry.discard_candidates(case)
    return _end(case, Outcome.WITHDRAWN, actor)


@transaction.atomic
def nothing_found(case: Case, *, actor: Actor) -> Case:
    """The officer confirms that the search found nothing. Raises NotAllowed otherwise."""
    case = flow.locked(case)
    require(has_role(actor, (Role.OFFICER,)))
    if case.status != Status.TARGETS or not case.targets.exists():
        raise NotAllowed("The search is not finished.")
    if case.targets.filter(affected=True).exists():
        raise NotAllowed("The person's data was found; select a method instead.")
    hits = [fact for target in case.targets.all() for fact in target.summary["facts"]]
    if any(fact["hits"] for fact in hits):
        raise NotAllowed("The model gave out the contact address; find the person on file first.")
    return _end(case, Outcome.NOTHING_FOUND, actor)


def _end(case: Case, outcome: Outcome, actor: Actor) -> Case:
    jobs.cancel(case, actor=actor)
    case.decisions.filter(outcome=DecisionOutcome.PENDING).update(
        outcome=DecisionOutcome.SUPERSEDED
    )
    case.outcome = outcome
    case.save(update_fields=["outcome"])
    return flow.move(case, to=Status.DOCUMENTATION, actor=actor, reason=outcome.value)
