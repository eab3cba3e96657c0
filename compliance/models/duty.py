"""Open duties: what must still not come out of a model, and what later versions gave out."""

from __future__ import annotations

from django.db import models

from .data_key import DataKey
from .registry import LanguageModel, ModelVersion


class DutyOutcome(models.TextChoices):
    """What asking again found."""

    HELD = "held", "Held"
    RESURFACED = "resurfaced", "Came out again"
    UNKNOWN = "unknown", "Unknown"


class DutyEnd(models.TextChoices):
    """Why somebody ends a duty before its day."""

    OBJECTION = "objection", "The person objected"
    LATER_REQUEST = "later_request", "A later request of the person asks for the opposite"
    DAMAGED = "damaged", "Its questions can no longer be read"


class Duty(models.Model):
    """The frozen questions of one finished case, which name the person, under a key of their own.

    It ends on its day or with its case, whichever comes first; then its key is destroyed and
    `sealed` names nothing that can be read.
    """

    reference = models.CharField(max_length=20, help_text="Reference of the case")
    model = models.ForeignKey(LanguageModel, on_delete=models.PROTECT, related_name="duties")
    sealed = models.CharField(max_length=64, help_text="Sealed artefact")
    key = models.OneToOneField(DataKey, on_delete=models.PROTECT, related_name="duty")
    basis = models.CharField(max_length=300)
    opened_at = models.DateTimeField()
    ends_on = models.DateField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["reference", "model"], name="one_duty_a_case_and_model")
        ]

    def __str__(self) -> str:
        return f"duty of {self.reference}"


class DutyRun(models.Model):
    """The questions of a duty asked of one version."""

    duty = models.ForeignKey(Duty, on_delete=models.CASCADE, related_name="runs")
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="duty_runs")
    outcome = models.CharField(max_length=10, choices=DutyOutcome.choices)
    reason = models.TextField()
    hits = models.PositiveIntegerField()
    asked = models.PositiveIntegerField()
    upper_95 = models.FloatField(null=True)
    ran_at = models.DateTimeField()

    class Meta:
        get_latest_by = ("ran_at", "pk")

    def __str__(self) -> str:
        return f"{self.outcome} of {self.duty}"
