"""Step 4, method selection: a measure for each target, proposed by one person, approved by another.

The policy suggests (policy.py); an officer proposes, with reasons; somebody in legal approves,
returns or refuses. Nobody approves what they proposed: the database holds that too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from compliance import audit, flow, policy
from compliance.decisions import require_four_eyes, require_reasons
from compliance.models import Case, Decision, DecisionOutcome, Role, Target, TargetKind, TargetState
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

if TYPE_CHECKING:
    from django.db.models import QuerySet


def methods_for(case: Case, target: Target) -> dict[str, str]:
    """The methods an officer may propose for this target, with their names."""
    if target.kind == TargetKind.DATASET:
        names = [policy.dataset_method(case)]
    elif case.subject.details["right_value"]:
        names = ["rome"]
    else:
        names = list(policy.FOR_MODELS)
    return {name: policy.METHODS[name][0] for name in names}


@transaction.atomic
def open_selection(case: Case, *, actor: Actor) -> Case:
    """The officer has looked at what was found and goes on to choose methods."""
    return flow.move(case, to=Status.METHOD, actor=actor)


@transaction.atomic
def propose(target: Target, *, actor: Actor, method: str, reasons: str) -> Decision:
    """Propose a method for one target. Raises NotAllowed with what to do."""
    case = flow.locked(target.case)
    target.case = case
    require(same_organisation(actor, case))
    require(has_role(actor, (Role.OFFICER,)))
    require(_in_status(case, Status.METHOD))
    require_reasons(reasons)
    if method not in methods_for(case, target):
        raise NotAllowed(f"“{method}” cannot be used here. Choose one of the methods offered.")
    suggestion = policy.suggest(case, target)
    target.decisions.filter(
        outcome__in=(DecisionOutcome.PENDING, DecisionOutcome.APPROVED, DecisionOutcome.RETURNED)
    ).update(outcome=DecisionOutcome.SUPERSEDED)
    measure, guarantee = policy.METHODS[method]
    decision = Decision.objects.create(
        case=case,
        target=target,
        method=method,
        measure=measure,
        guarantee_class=guarantee,
        parameters={"facts": suggestion.facts, "suggested": suggestion.method},
        criteria=suggestion.criteria,
        policy_version=policy.policy().version,
        reasons=reasons.strip(),
        proposed_by=actor.user,
        proposed_at=timezone.now(),
        outcome=DecisionOutcome.PENDING,
    )
    target.state = TargetState.PROPOSED
    target.save(update_fields=["state"])
    audit.record(
        "measure.proposed",
        actor=actor,
        case=case,
        target=target.pk,
        method=method,
        suggested=suggestion.method,
    )
    return decision


@transaction.atomic
def submit(case: Case, *, actor: Actor) -> Case:
    """Hand the proposals to legal. Raises NotAllowed while a target has none."""
    return flow.move(case, to=Status.APPROVAL, actor=actor)


@transaction.atomic
def approve(case: Case, *, actor: Actor, reasons: str) -> Case:
    """Approve every pending measure; the application starts. Raises NotAllowed."""
    case = flow.locked(case)
    require(same_organisation(actor, case))
    require(has_role(actor, (Role.LEGAL,)))
    require(_in_status(case, Status.APPROVAL))
    require_reasons(reasons)
    pending = list(_pending(case))
    for decision in pending:
        require_four_eyes(decision, actor)
        _decide(decision, actor, DecisionOutcome.APPROVED, reasons)
        Target.objects.filter(decisions=decision).update(state=TargetState.APPROVED)
        audit.record(
            "measure.approved",
            actor=actor,
            case=case,
            target=decision.target_id,
            method=decision.method,
        )
    return flow.move(case, to=Status.APPLICATION, actor=actor)


@transaction.atomic
def send_back(case: Case, *, actor: Actor, reasons: str) -> Case:
    """Return the proposals to the officer with reasons. Raises NotAllowed."""
    case = flow.locked(case)
    require(same_organisation(actor, case))
    require(has_role(actor, (Role.LEGAL,)))
    require(_in_status(case, Status.APPROVAL))
    require_reasons(reasons)
    for decision in _pending(case):
        require_four_eyes(decision, actor)
        _decide(decision, actor, DecisionOutcome.RETURNED, reasons)
        Target.objects.filter(decisions=decision).update(state=TargetState.FOUND)
        audit.record("measure.returned", actor=actor, case=case, target=decision.target_id)
    return flow.move(case, to=Status.METHOD, actor=actor, reason="returned by legal")


def _pending(case: Case) -> QuerySet[Decision]:
    return case.decisions.filter(target__isnull=False, outcome=DecisionOutcome.PENDING)


def _decide(decision: Decision, actor: Actor, outcome: DecisionOutcome, reasons: str) -> None:
    decision.outcome = outcome
    decision.decided_by = actor.user
    decision.decided_at = timezone.now()
    decision.decision_reasons = reasons.strip()
    decision.save(update_fields=["outcome", "decided_by", "decided_at", "decision_reasons"])


def _in_status(case: Case, status: Status) -> Allowed | Denied:
    if case.status == status:
        return Allowed()
    return Denied(f"The case is in “{case.get_status_display()}”, not in “{status.label}”.")
