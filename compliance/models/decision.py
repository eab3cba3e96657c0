"""Decisions: a measure for a target, or the refusal of a case. Two people make each."""

from __future__ import annotations

from django.db import models

from .case import Case
from .organisation import User
from .sealed_field import SealedJSONField


class DecisionOutcome(models.TextChoices):
    PROPOSED = "proposed", "Proposed"
    PENDING = "pending", "Awaiting approval"
    APPROVED = "approved", "Approved"
    RETURNED = "returned", "Returned"
    SUPERSEDED = "superseded", "Superseded"


class Decision(models.Model):
    """A proposal and what became of it.

    With a target: which `method` is to change it, by which `criteria` (question, answer, effect).
    Without: a refusal on `ground`, with the facts it rests on (sealed: they may be personal).
    """

    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="decisions")
    target = models.ForeignKey(
        "compliance.Target", on_delete=models.CASCADE, null=True, related_name="decisions"
    )
    method = models.CharField(max_length=30, blank=True)
    measure = models.CharField(max_length=300, blank=True)
    guarantee_class = models.CharField(max_length=3, blank=True)
    parameters = models.JSONField(default=dict)
    criteria = models.JSONField(default=list)
    policy_version = models.CharField(max_length=20, blank=True)
    ground = models.CharField(max_length=60, blank=True)
    reasons = SealedJSONField()
    proposed_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    proposed_at = models.DateTimeField()
    decided_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    decided_at = models.DateTimeField(null=True, blank=True)
    decision_reasons = SealedJSONField(null=True)
    outcome = models.CharField(max_length=12, choices=DecisionOutcome.choices)

    class Meta:
        constraints = [
            models.CheckConstraint(
                # Four eyes: nobody approves what they proposed.
                condition=models.Q(decided_by__isnull=True)
                | models.Q(proposed_by__isnull=False)
                & ~models.Q(decided_by=models.F("proposed_by")),
                name="decided_by_another_person",
            ),
            models.CheckConstraint(
                condition=~models.Q(outcome="approved") | models.Q(decided_by__isnull=False),
                name="approval_names_its_person",
            ),
            models.CheckConstraint(
                condition=models.Q(target__isnull=True) ^ models.Q(ground=""),
                name="measure_or_refusal",
            ),
        ]

    def __str__(self) -> str:
        return f"{'refusal' if self.target_id is None else self.method} ({self.outcome})"

    @property
    def is_refusal(self) -> bool:
        return self.target_id is None
