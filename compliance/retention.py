"""How long personal data of a case is kept: the list that a person reviews, holds, destruction.

GDPR Art. 5(1)(e), PDPA s. 37(3): no longer than needed. Nothing is destroyed by a clock alone: the
policy's periods put a case on the list, somebody in legal looks at the list and decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Max, Q
from django.utils import timezone

from . import audit, flow, policy, shredding
from .decisions import require_reasons
from .log_actions import READS
from .models import AuditEvent, Case, LegalHold, Organisation, Role
from .permissions import (
    Actor,
    Allowed,
    Denied,
    NotAllowed,
    Verdict,
    has_role,
    require,
    same_organisation,
)
from .statuses import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

COMING_DAYS = 30
# A gap between the last event and now beyond this looks like a clock that jumped.
QUIET_DAYS = 60


@dataclass(frozen=True)
class Item:
    """A case on the list. `due`: from when its personal data may be destroyed."""

    case: Case
    due: datetime
    days: int
    hold: LegalHold | None


@dataclass
class Review:
    """The list of one organisation. `clock`: a warning when the machine's date looks wrong."""

    due: list[Item] = field(default_factory=list)
    held: list[Item] = field(default_factory=list)
    coming: list[Item] = field(default_factory=list)
    stalled: list[Item] = field(default_factory=list)
    clock: str = ""


def due_at(case: Case) -> datetime:
    """When the period of the case's outcome ends. Raises ValueError for a case that is open."""
    if case.closed_at is None:
        raise ValueError("an open case has no end of retention")
    return case.closed_at + timedelta(days=policy.policy().retention[case.outcome])


def hold_of(case: Case) -> LegalHold | None:
    """The hold in force, if any."""
    return next((hold for hold in case.holds.all() if hold.lifted_at is None), None)


def review(organisation: Organisation) -> Review:
    """What is due, held, due soon or stalled; nothing is changed."""
    now = timezone.now()
    result = Review(clock=clock_warning())
    closed = Case.objects.filter(
        organisation=organisation, status=Status.CLOSED, shredded_at__isnull=True
    )
    for case in closed.prefetch_related("holds__placed_by").order_by("closed_at"):
        due, hold = due_at(case), hold_of(case)
        item = Item(case, due, abs((due - now).days), hold)
        if hold is not None:
            result.held.append(item)
        elif due <= now:
            result.due.append(item)
        elif due <= now + timedelta(days=COMING_DAYS):
            result.coming.append(item)
    result.stalled = _stalled(organisation, now)
    return result


def _stalled(organisation: Organisation, now: datetime) -> list[Item]:
    """Open cases in which nothing has happened for the policy's time: failed for all purposes."""
    limit = timedelta(days=policy.policy().retention["stalled"])
    quiet = (
        Case.objects.filter(organisation=organisation)
        .exclude(status=Status.CLOSED)
        # Looking at a case does not move it.
        .annotate(last=Max("events__at", filter=~Q(events__action__in=READS)))
        .filter(last__lt=now - limit)
        .prefetch_related("holds__placed_by")
        .order_by("last")
    )
    return [Item(case, case.last + limit, (now - case.last).days, hold_of(case)) for case in quiet]


def clock_warning() -> str:
    """Words of warning when the date of this machine does not fit the log; else empty."""
    last = AuditEvent.objects.order_by("-seq").values_list("at", flat=True).first()
    if last is None:
        return ""
    gap = timezone.now() - last
    if gap < timedelta(minutes=-5):
        return (
            f"The newest event of the log is dated {last:%d %B %Y}, later than this machine's "
            "clock. Set the clock right before you decide by dates."
        )
    if gap > timedelta(days=QUIET_DAYS):
        return (
            f"Nothing happened here since {last:%d %B %Y}, or this machine's clock jumped ahead. "
            "Check the date before you decide by it."
        )
    return ""


def may_shred(case: Case, actor: Actor) -> Verdict:
    """Whether the case may be shredded now by this person; the reason when not."""
    for verdict in (same_organisation(actor, case), has_role(actor, (Role.LEGAL,))):
        if not verdict:
            return verdict
    if case.status != Status.CLOSED:
        return Denied(f"{case.reference} is open. Only closed cases are destroyed.")
    if case.shredded_at is not None:
        return Denied(f"The personal data of {case.reference} was destroyed already.")
    if hold_of(case) is not None:
        return Denied(f"{case.reference} is under a legal hold. Lift it first.")
    if due_at(case) > timezone.now():
        return Denied(f"{case.reference} is kept until {due_at(case):%d %B %Y}.")
    return Allowed()


def shred_reviewed(cases: Sequence[Case], *, actor: Actor) -> int:
    """Destroy the personal data of reviewed cases: all of them, or none when one may not be.

    Returns how many. Raises NotAllowed with the reason.
    """
    if not cases:
        raise NotAllowed("Choose at least one case.")
    for case in cases:
        require(may_shred(case, actor))
    for case in cases:
        shredding.shred(
            case,
            actor=actor,
            reason="retention ended",
            allowed=lambda current: require(may_shred(current, actor)),
        )
    return len(cases)


@transaction.atomic
def place_hold(case: Case, *, actor: Actor, reason: str) -> LegalHold:
    """Keep the case from destruction, for example while a court case runs. Raises NotAllowed."""
    require(same_organisation(actor, case))
    require(has_role(actor, (Role.LEGAL,)))
    require_reasons(reason)
    case = flow.locked(case)
    if case.shredded_at is not None:
        raise NotAllowed("The personal data of this case was destroyed already.")
    if hold_of(case) is not None or actor.user is None:
        raise NotAllowed("This case is under a legal hold already.")
    hold = LegalHold.objects.create(
        case=case, reason=reason.strip(), placed_at=timezone.now(), placed_by=actor.user
    )
    audit.record("hold.placed", actor=actor, case=case)
    return hold


@transaction.atomic
def lift_hold(case: Case, *, actor: Actor) -> None:
    """End the hold; the case's own period goes on. Raises NotAllowed."""
    require(same_organisation(actor, case))
    require(has_role(actor, (Role.LEGAL,)))
    flow.locked(case)
    lifted = case.holds.filter(lifted_at__isnull=True).update(
        lifted_at=timezone.now(), lifted_by=actor.user
    )
    if lifted != 1:
        raise NotAllowed("This case is under no legal hold.")
    audit.record("hold.lifted", actor=actor, case=case)
