"""Legal holds: what must not be destroyed yet, on whose word and why."""

from __future__ import annotations

from django.db import models

from .case import Case
from .organisation import User
from .sealed_field import SealedJSONField


class LegalHold(models.Model):
    """While one is open its case is not shredded. The reason may be personal, so it is sealed."""

    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="holds")
    reason = SealedJSONField()
    placed_at = models.DateTimeField()
    placed_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    lifted_at = models.DateTimeField(null=True, blank=True)
    lifted_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["case"],
                condition=models.Q(lifted_at__isnull=True),
                name="one_open_hold_per_case",
            ),
        ]

    def __str__(self) -> str:
        return f"hold of {self.case}"
