"""Jobs: the queue of record. A message on the broker carries a job's id and nothing else."""

from __future__ import annotations

import uuid

from django.db import models

from .case import Case
from .organisation import User
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
    owner = models.CharField(max_length=80, blank=True, help_text="Host and process")
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


class JobStep(models.Model):
    """An effect of a job that is on record: a job that is taken up again passes it by."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="steps")
    name = models.CharField(max_length=20)
    artefact = models.CharField(max_length=64, blank=True, help_text="Sealed artefact")
    fence = models.PositiveIntegerField()
    recorded_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["job", "name"], name="effect_recorded_once"),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.job}"


class JobPause(models.Model):
    """All jobs stand still from `paused_at` to `resumed_at`; the open one, if any, is in force."""

    reason = models.CharField(max_length=300)
    paused_at = models.DateTimeField()
    paused_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    resumed_at = models.DateTimeField(null=True, blank=True)
    resumed_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                models.Value(1), condition=models.Q(resumed_at__isnull=True), name="one_open_pause"
            ),
        ]

    def __str__(self) -> str:
        return f"pause since {self.paused_at:%Y-%m-%d %H:%M}"
