"""What the broker's messages start: an id, nothing else."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import UUID

from celery import shared_task
from celery.signals import worker_process_init, worker_ready

from . import child, jobs, upkeep
from .faults import hindrance
from .traces import where

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)


@contextmanager
def _told_by_place(what: str) -> Iterator[None]:
    """Celery would log an error with its message, which may hold what a row holds.

    Nothing is lost by going on: a lease runs out, and the next sweep rings again.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 -- told by its kind and place, see above
        log.error("%s could not be done now: %s", what, hindrance(error) or where(error))


@shared_task
def run_job(job_id: str) -> None:
    with _told_by_place(f"Job {job_id}"):
        jobs.run(UUID(job_id))


@shared_task
def sweep() -> None:
    with _told_by_place("The sweep"):
        jobs.sweep()


@shared_task
def keep_up() -> None:
    with _told_by_place("Upkeep"):
        upkeep.keep_up()


@worker_ready.connect
def take_up_what_waits(**_: object) -> None:
    """A worker that starts takes up what an earlier one left."""
    keep_up.delay()
    sweep()


@worker_process_init.connect
def load_libraries(**_: object) -> None:
    """While the first job is still to come."""
    child.prepare()
