"""What the broker's messages start: an id, nothing else."""

from __future__ import annotations

import logging
from uuid import UUID

from celery import shared_task
from celery.signals import worker_ready

from . import jobs, upkeep
from .faults import DATABASE_AWAY

log = logging.getLogger(__name__)


@shared_task
def run_job(job_id: str) -> None:
    try:
        jobs.run(UUID(job_id))
    except DATABASE_AWAY:
        # Its lease runs out, and the sweeper rings again.
        log.warning("The database is away; job %s is taken up again later.", job_id)


@shared_task
def sweep() -> None:
    try:
        jobs.sweep()
    except DATABASE_AWAY:
        log.warning("The database is away; nothing could be swept.")


@shared_task
def keep_up() -> None:
    upkeep.keep_up()


@worker_ready.connect
def take_up_what_waits(**_: object) -> None:
    """A worker that starts takes up what an earlier one left."""
    keep_up.delay()
    sweep()
