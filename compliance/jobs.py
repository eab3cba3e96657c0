"""The queue of record: claim with lease and fence, beat, record once, give up with a reason.

A Celery message only rings; the row decides. Each step of a job may run more than once; its effect
is recorded once, because the fence is checked and the step is noted in the transaction that records
it. A worker that dies leaves a lease that runs out; the sweeper then rings for the job again.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from language_models.errors import LetheError

from . import audit, child, notify, pause
from .beat import Beat
from .envelope import SealError
from .faults import hindrance, when_database_answers
from .models import Case, Job, JobKind, JobState, JobStep, Target
from .permissions import SYSTEM, Actor
from .store import StoreError
from .traces import where

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

log = logging.getLogger(__name__)

# Each module has STEPS, in their order, and failed(job, reason).
HANDLERS = {
    JobKind.FIND: "compliance.steps.step3_targets",
    JobKind.APPLY: "compliance.steps.step5_application",
    JobKind.VERIFY: "compliance.steps.step6_verification",
    JobKind.DOCUMENT: "compliance.steps.documentation",
}
# No postponement is longer. A date beyond it was written by a clock that has been set back since.
LONGEST_WAIT_SECONDS = 600
HINDERED_SECONDS = 10


@dataclass(frozen=True)
class Step:
    """One effect of a job.

    prepare: says what is to be done and changes no row. A heavy step hands that to the child
    process; the answer, or of a light step what `prepare` said, goes to record, which keeps it in
    one transaction with the note that it was kept. record may be called again with the same result
    when its transaction failed; it may return the digest of an artefact that later steps need.
    keep: puts large files of the answer into the store first, outside of the transaction, which has
    to be short; what it returns goes to record.
    """

    name: str
    record: Callable[[Job, dict[str, Any]], str | None]
    prepare: Callable[[Job], dict[str, Any]]
    heavy: bool = True
    keep: Callable[[dict[str, Any]], dict[str, Any]] | None = None


class Postponed(Exception):
    """The job must wait for something else; this is no attempt."""

    def __init__(self, reason: str, seconds: float = 2.0) -> None:
        super().__init__(reason)
        self.seconds = seconds


class LeaseLost(Exception):
    """Another worker holds the job now; whatever this one did is dropped."""


# --- Start, ring, claim ---


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
    except (run_job.OperationalError, OSError):
        log.warning("The broker did not take job %s; the sweeper rings again.", job_id)


def _free() -> Q:
    """Jobs that may be taken: ready ones, and running ones whose lease ran out.

    A lease or a wait that lies further ahead than any can is the trace of a clock that was set
    back; taking such a job is safe, because the fence decides who records.
    """
    now = timezone.now()
    no_lease = now + timedelta(seconds=2 * settings.JOB_LEASE_SECONDS)
    no_wait = now + timedelta(seconds=LONGEST_WAIT_SECONDS)
    ready = Q(not_before__lte=now) | Q(not_before__gt=no_wait)
    expired = Q(lease_until__lt=now) | Q(lease_until__gt=no_lease)
    return Q(state=JobState.READY) & ready | Q(state=JobState.RUNNING) & expired


def claim(job_id: UUID) -> Job | None:
    """Take the job when it is free; None when it is not ours to take, or all jobs are paused."""
    if pause.in_force() is not None:
        return None
    with transaction.atomic():
        # The case first, then the job: everything that locks both does so in this order.
        list(Case.objects.select_for_update().filter(jobs=job_id))
        left_behind = Job.objects.filter(pk=job_id, state=JobState.RUNNING).exists()
        taken = Job.objects.filter(_free(), pk=job_id).update(
            state=JobState.RUNNING,
            fence=F("fence") + 1,
            attempt=F("attempt") + 1,
            owner=f"{socket.gethostname()[:60]}:{os.getpid()}",
            lease_until=timezone.now() + timedelta(seconds=settings.JOB_LEASE_SECONDS),
            started_at=timezone.now(),
            stage="Starting",
            done=0,
            total=0,
        )
        if taken != 1:
            return None
        job = Job.objects.select_related("case", "target").get(pk=job_id)
        # Only what a dead worker left; one that waits for room on a disk is claimed many times.
        if left_behind:
            audit.record("job.restarted", actor=SYSTEM, case=job.case, attempt=job.attempt)
    return job


def hold(job: Job) -> None:
    """Lock the row and check the fence; call first in every transaction that records an effect.

    Raises LeaseLost when another worker took the job over, or the job was cancelled.
    """
    held = Job.objects.filter(pk=job.pk, fence=job.fence, state=JobState.RUNNING).update(
        lease_until=timezone.now() + timedelta(seconds=settings.JOB_LEASE_SECONDS)
    )
    if held != 1:
        raise LeaseLost


# --- Run ---


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
        for step in handler.STEPS:
            _do(job, step, last=step is handler.STEPS[-1])
    except Postponed as wait:
        _again(job, seconds=wait.seconds, stage=str(wait), counted=False)
    except child.StepStopped:
        log.info("Job %s was cancelled or taken over; its process was ended.", job.pk)
    except LeaseLost:
        log.warning("Job %s was taken over by another worker.", job.pk)
    except (child.StepFailed, LetheError, StoreError, SealError, audit.LogBroken) as failure:
        _give_up(job, handler, str(failure))
    except child.StepCrashed as crash:
        _after_crash(job, handler, str(crash))
    except Exception as error:  # noqa: BLE001 -- its message may be personal; its place is not
        reason = hindrance(error)
        if reason is not None:
            _again(job, seconds=HINDERED_SECONDS, stage=reason, counted=False)
        else:
            _after_crash(job, handler, where(error))


def _do(job: Job, step: Step, *, last: bool) -> None:
    """One step, unless an earlier attempt recorded it."""
    if job.steps.filter(name=step.name).exists():
        return
    stopped = pause.in_force()
    if stopped is not None:
        raise Postponed(f"All jobs are paused: {stopped.reason}")
    result = step.prepare(job)
    if step.heavy:
        result = child.run(result, Beat(job))
    if step.keep is not None:
        result = step.keep(result)
    when_database_answers(lambda: _record(job, step, result, last=last))


@transaction.atomic
def _record(job: Job, step: Step, result: dict[str, Any], *, last: bool) -> None:
    # Two jobs of one case that end together record one after the other.
    case = Case.objects.select_for_update().get(pk=job.case_id)
    if JobStep.objects.filter(job=job, name=step.name, fence=job.fence).exists():
        return  # A commit whose answer was lost: the effect is on record.
    hold(job)
    # Read anew: a try that was rolled back has changed the objects of the last, not the rows.
    current = Job.objects.select_related("target").get(pk=job.pk)
    current.case = case
    if current.target is not None:
        current.target.case = case
    artefact = step.record(current, result)
    JobStep.objects.create(
        job=job,
        name=step.name,
        artefact=artefact or "",
        fence=job.fence,
        recorded_at=timezone.now(),
    )
    if last:
        Job.objects.filter(pk=job.pk).update(
            state=JobState.DONE, lease_until=None, finished_at=timezone.now()
        )


def _after_crash(job: Job, handler: Any, reason: str) -> None:
    if job.attempt >= settings.JOB_MAX_ATTEMPTS:
        _give_up(job, handler, reason)
    else:
        _again(job, seconds=2.0**job.attempt, stage=reason, counted=True)


def _again(job: Job, *, seconds: float, stage: str, counted: bool) -> None:
    """Back to the queue for later. An attempt that does not count is given back."""

    def put_back() -> None:
        wait = timezone.now() + timedelta(seconds=seconds)
        with transaction.atomic():
            mine = Job.objects.filter(pk=job.pk, fence=job.fence, state=JobState.RUNNING)
            given_back: dict[str, Any] = {} if counted else {"attempt": F("attempt") - 1}
            again = mine.update(
                state=JobState.READY,
                lease_until=None,
                not_before=wait,
                stage=stage[:80],
                **given_back,
            )
        if again:
            # The sweeper rings once `not_before` has come.
            log.info("Job %s waits: %s", job.pk, stage)

    when_database_answers(put_back)


def _give_up(job: Job, handler: Any, reason: str) -> None:
    def fail() -> None:
        with transaction.atomic():
            job.case = Case.objects.select_for_update().get(pk=job.case_id)
            try:
                hold(job)
            except LeaseLost:
                return
            Job.objects.filter(pk=job.pk).update(
                state=JobState.FAILED,
                error=reason[:500],
                lease_until=None,
                finished_at=timezone.now(),
            )
            audit.record(
                "job.failed", actor=SYSTEM, case=job.case, kind=job.kind, attempt=job.attempt
            )
            notify.job_failed(job.case, JobKind(job.kind).label.lower())
            handler.failed(job, reason)

    when_database_answers(fail)


# --- Cancel and sweep ---


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
    if pause.in_force() is not None:
        return 0
    ids = list(Job.objects.filter(_free()).values_list("pk", flat=True))
    for job_id in ids:
        ring(job_id)
    return len(ids)
