"""What the broker's messages start: an id, nothing else."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task
from celery.signals import worker_ready

from . import jobs


@shared_task
def run_job(job_id: str) -> None:
    jobs.run(UUID(job_id))


@shared_task
def sweep() -> None:
    jobs.sweep()


@worker_ready.connect
def ring_for_what_waits(**_: object) -> None:
    """A worker that starts takes up what an earlier one left."""
    jobs.sweep()
