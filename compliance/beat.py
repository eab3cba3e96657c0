"""The heartbeat of a running job: it extends the lease and shows the progress."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import InternalError, connection
from django.utils import timezone

from .faults import DATABASE_AWAY, database_is_away
from .models import Job, JobState

if TYPE_CHECKING:
    from .child import Progress

PROGRESS_SECONDS = 0.5


class Beat:
    """Extend the lease every quarter of it and show progress; False when the job must stop.

    A database that is away stops nothing: hours of work are worth keeping, and what is recorded
    at the end is checked against the fence.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.beaten = self.shown = time.monotonic()
        self.progress: Progress | None = None

    def __call__(self, progress: Progress | None) -> bool:
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
        try:
            return mine.update(**changes) == 1
        except (*DATABASE_AWAY, InternalError) as error:
            if not database_is_away(error):
                raise
            connection.close()
            return True
