"""Pause all jobs: a flag in the database, honoured before a job is taken and between its steps.

It stops the jobs of the whole installation, of every organisation: the machines are shared.
"""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from . import audit
from .models import JobPause, Role
from .permissions import Actor, NotAllowed, has_role, require

MAY_PAUSE = (Role.STEWARD, Role.SYSTEM)
LONGEST_REASON = 300


def in_force() -> JobPause | None:
    """The pause that is on, if any."""
    return JobPause.objects.filter(resumed_at__isnull=True).first()


@transaction.atomic
def pause(*, actor: Actor, reason: str) -> JobPause:
    """Let no job begin and no job go on past the step it is in. Raises NotAllowed.

    `reason` stands beside waiting jobs and on the stewards' page: no personal data.
    """
    require(has_role(actor, MAY_PAUSE))
    if not reason.strip() or len(reason) > LONGEST_REASON:
        raise NotAllowed(f"Give a reason of at most {LONGEST_REASON} characters.")
    if in_force() is not None:
        raise NotAllowed("All jobs are paused already.")
    made = JobPause.objects.create(
        reason=reason.strip(), paused_at=timezone.now(), paused_by=actor.user
    )
    audit.record("jobs.paused", actor=actor)
    return made


@transaction.atomic
def resume(*, actor: Actor) -> None:
    """Let the jobs go on; the sweeper rings for them. Raises NotAllowed."""
    require(has_role(actor, MAY_PAUSE))
    changed = JobPause.objects.filter(resumed_at__isnull=True).update(
        resumed_at=timezone.now(), resumed_by=actor.user
    )
    if changed != 1:
        raise NotAllowed("No pause is on.")
    audit.record("jobs.resumed", actor=actor)
