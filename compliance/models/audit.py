"""The log of record: one row per act, without personal data, each chained to the one before."""

from __future__ import annotations

from django.db import models

from .case import Case


class AuditEvent(models.Model):
    """`leaf` is canonical JSON; `digest` = SHA-256(0x00 ‖ leaf); `chain` = SHA-256(chain ‖ digest).

    The leaf hash is RFC 6962's, so that a Merkle tree can be built over the same rows.
    """

    seq = models.PositiveBigIntegerField(unique=True)
    case = models.ForeignKey(
        Case, on_delete=models.PROTECT, null=True, blank=True, related_name="events"
    )
    at = models.DateTimeField()
    action = models.CharField(max_length=40)
    leaf = models.TextField()
    digest = models.CharField(max_length=64)
    chain = models.CharField(max_length=64)

    class Meta:
        ordering = ["seq"]

    def __str__(self) -> str:
        return f"{self.seq} {self.action}"
