"""The queue of record: claim with lease and fence, beat, record once, give up with a reason.

A Celery message only rings; the row decides. Each step may run more than once; its effect is
recorded once, because the fence is checked in the transaction that records it. A worker that dies
leaves a lease that runs out; the sweeper then rings for the job again.
"""

from __future__ import annotations

import importlib
import logging
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from language_models.errors import LetheError

from . import audit, child
from .models import Case, Job, JobKind, JobState, Target
from .permissions import SYSTEM, Actor
from .store import StoreError
from .traces import where

if TYPE_CHECKING:
    from uuid import UUID

log = logging.getLogger(__name__)

# Each module has prepare(job) -> request, record(job, result) and failed(job, reason).
HANDLERS = {
    JobKind.FIND: "compliance.steps.step3_targets",
    JobKind.APPLY: "compliance.steps.step5_application",
    JobKind.VERIFY: "compliance.steps.step6_verification",
    JobKind.DOCUMENT: "compliance.steps.documentation",
}
PROGRESS_SECONDS = 0.5


class Postponed(Exception):
    """The job must wait for something else; this is no attempt."""

    def __init__(self, reason: str, seconds: float = 2.0) -> None:
        super().__init__(reason)
        self.seconds = seconds


class LeaseLost(Exception):
    """Another worker holds the job now; whatever this one did is dropped."""


def start(kind: JobKind, *, case: Case, target: Target | None = None) -> Job:
    """Create a job and ring for it once the transaction is committed."""
    now = timezone.now()
    job = Job.objects.create(kind=kind, case=case, target=target, not_before=now, created_at=now)
    transaction.on_commit(lambda: ring(job.pk))
    return job


def ring(job_id: UUID) -> None:
    """Tell a worker that a job may be ready. A bell that is lost is rung again by `sweep`."""
    from .tasks import run_job

    try:
        run_job.delay(str(job_id))
    except run_job.OperationalError:
        log.warning("The broker did not take job %s; the sweeper rings again.", job_id)


def claim(job_id: UUID) -> Job | None:
    """Take the job when it is ready or its lease ran out; None when it is not ours to take."""
    now = timezone.now()
    free = Q(state=JobState.READY, not_before__lte=now) | Q(
        state=JobState.RUNNING, lease_until__lt=now
    )
    with transaction.atomic():
        taken = Job.objects.filter(free, pk=job_id).update(
            state=JobState.RUNNING,
            fence=F("fence") + 1,
            attempt=F("attempt") + 1,
            lease_until=now + timedelta(seconds=settings.JOB_LEASE_SECONDS),
            started_at=now,
            stage="Starting",
            done=0,
            total=0,
        )
        if taken != 1:
            return None
        job = Job.objects.select_related("case", "target").get(pk=job_id)
        if job.attempt > 1:
            audit.record("job.restarted", actor=SYSTEM, case=job.case, attempt=job.attempt)
    return job


def hold(job: Job) -> None:
    """Lock the row and check the fence; call first in every transaction that records an effect.

    Raises LeaseLost when another worker took the job over.
    """
    held = Job.objects.filter(pk=job.pk, fence=job.fence, state=JobState.RUNNING).update(
        lease_until=timezone.now() + timedelta(seconds=settings.JOB_LEASE_SECONDS)
    )
    if held != 1:
        raise LeaseLost


def run(job_id: UUID) -> None:
    """Do one job, if it can be had. Called by the worker."""
    job = claim(job_id)
    if job is None:
        return
    handler = importlib.import_module(HANDLERS[JobKind(job.kind)])
    if job.attempt > settings.JOB_MAX_ATTEMPTS:
        _give_up(job, handler, job.error or "The worker ended each time before the job was done.")
        return
    try:
        _do(job, handler)
    except Postponed as wait:
        _again(job, seconds=wait.seconds, stage=str(wait), counted=False)
    except child.StepStopped:
        log.info("Job %s was cancelled or taken over; its process was ended.", job.pk)
    except LeaseLost:
        log.warning("Job %s was taken over by another worker.", job.pk)
    except (child.StepFailed, LetheError, StoreError) as failure:
        _give_up(job, handler, str(failure))
    except child.StepCrashed as crash:
        _after_crash(job, handler, str(crash))
    except Exception as error:  # noqa: BLE001 -- its message may be personal; its place is not
        _after_crash(job, handler, where(error))


def _do(job: Job, handler: Any) -> None:
    result = child.run(handler.prepare(job), _Beat(job))
    with transaction.atomic():
        hold(job)
        # Two jobs of one case that end together record one after the other.
        job.case = Case.objects.select_for_update().get(pk=job.case_id)
        handler.record(job, result)
        Job.objects.filter(pk=job.pk).update(
            state=JobState.DONE, lease_until=None, finished_at=timezone.now()
        )


def _after_crash(job: Job, handler: Any, reason: str) -> None:
    if job.attempt >= settings.JOB_MAX_ATTEMPTS:
        _give_up(job, handler, reason)
    else:
        _again(job, seconds=2.0**job.attempt, stage=reason, counted=True)


class _Beat:
    """Extend the lease every quarter of it and show progress; False when the job must stop."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.beaten = self.shown = time.monotonic()
        self.progress: child.Progress | None = None

    def __call__(self, progress: child.Progress | None) -> bool:
        now = time.monotonic()
        self.progress = progress or self.progress
        due = now - self.beaten > settings.JOB_LEASE_SECONDS / 4
        news = self.progress is not None and now - self.shown > PROGRESS_SECONDS
        if not due and not news:
            return True
        changes: dict[str, Any] = {
            "lease_until": timezone.now() + timedelta(seconds=settings.JOB_LEASE_SECONDS)
        }
        if self.progress is not None:
            changes |= dict(zip(("stage", "done", "total"), self.progress, strict=True))
        self.beaten = self.shown = now
        self.progress = None
        mine = Job.objects.filter(pk=self.job.pk, fence=self.job.fence, state=JobState.RUNNING)
        return mine.update(**changes) == 1


@transaction.atomic
def _again(job: Job, *, seconds: float, stage: str, counted: bool) -> None:
    wait = timezone.now() + timedelta(seconds=seconds)
    mine = Job.objects.filter(pk=job.pk, fence=job.fence, state=JobState.RUNNING)
    changes: dict[str, Any] = {} if counted else {"attempt": F("attempt") - 1}
    again = mine.update(
        state=JobState.READY, lease_until=None, not_before=wait, stage=stage[:80], **changes
    )
    if again:
        # The sweeper rings once `not_before` has come.
        log.info("Job %s waits: %s", job.pk, stage)


@transaction.atomic
def _give_up(job: Job, handler: Any, reason: str) -> None:
    try:
        hold(job)
    except LeaseLost:
        return
    Job.objects.filter(pk=job.pk).update(
        state=JobState.FAILED, error=reason[:500], lease_until=None, finished_at=timezone.now()
    )
    audit.record("job.failed", actor=SYSTEM, case=job.case, kind=job.kind, attempt=job.attempt)
    handler.failed(job, reason)


def cancel(case: Case, *, actor: Actor) -> None:
    """Stop the case's jobs: one that runs may record nothing any more and ends at its next beat."""
    Job.objects.filter(case=case, state__in=(JobState.READY, JobState.RUNNING)).update(
        state=JobState.CANCELLED,
        fence=F("fence") + 1,
        lease_until=None,
        finished_at=timezone.now(),
        stage=f"Cancelled by {actor.role.label}",
    )


def sweep() -> int:
    """Ring for every job that is ready or whose lease ran out; returns how many."""
    now = timezone.now()
    waiting = Job.objects.filter(
        Q(state=JobState.READY, not_before__lte=now)
        | Q(state=JobState.RUNNING, lease_until__lt=now)
    )
    ids = list(waiting.values_list("pk", flat=True))
    for job_id in ids:
        ring(job_id)
    return len(ids)
