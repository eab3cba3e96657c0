"""Jobs: the queue of record. A message on the broker carries a job's id and nothing else."""

from __future__ import annotations

import uuid

from django.db import models

from .case import Case
from .target import Target


class JobKind(models.TextChoices):
    FIND = "find", "Finding targets"
    APPLY = "apply", "Applying the measure"
    VERIFY = "verify", "Verifying"
    DOCUMENT = "document", "Writing report and letter"


class JobState(models.TextChoices):
    READY = "ready", "Waiting"
    RUNNING = "running", "Running"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


class Job(models.Model):
    """A heavy step. Whoever holds the current `fence` within the lease may record its effect."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=10, choices=JobKind.choices)
    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="jobs")
    target = models.ForeignKey(Target, on_delete=models.CASCADE, null=True, related_name="jobs")
    state = models.CharField(max_length=10, choices=JobState.choices, default=JobState.READY)
    attempt = models.PositiveSmallIntegerField(default=0)
    fence = models.PositiveIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    not_before = models.DateTimeField()
    stage = models.CharField(max_length=80, blank=True)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    error = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["case", "kind", "target"],
                condition=models.Q(state__in=["ready", "running"]),
                name="one_live_job_per_target",
            ),
            models.UniqueConstraint(
                fields=["case", "kind"],
                condition=models.Q(state__in=["ready", "running"], target__isnull=True),
                name="one_live_job_per_case",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def on(self) -> Target:
        """The target of a job that has one. Raises ValueError for a job of the whole case."""
        if self.target is None:
            raise ValueError("this job is for the whole case")
        return self.target

    @property
    def percent(self) -> int:
        return round(100 * self.done / self.total) if self.total else 0
