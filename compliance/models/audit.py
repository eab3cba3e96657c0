"""The log of record: one row per act, without personal data, in a Merkle tree (RFC 6962)."""

from __future__ import annotations

from django.db import models

from .case import Case


class AuditEvent(models.Model):
    """`leaf` is canonical JSON, `digest` its leaf hash (RFC 6962 §2.1).

    `node` is the hash of the largest complete subtree that ends at this leaf: from these alone
    roots and proofs of any size are computed (merkle.py). Triggers refuse UPDATE, DELETE and
    TRUNCATE (append_only.py).
    """

    seq = models.PositiveBigIntegerField(primary_key=True)
    case = models.ForeignKey(
        Case, on_delete=models.PROTECT, null=True, blank=True, related_name="events"
    )
    at = models.DateTimeField()
    action = models.CharField(max_length=40)
    leaf = models.TextField()
    digest = models.CharField(max_length=64)
    node = models.CharField(max_length=64)

    class Meta:
        ordering = ["seq"]

    def __str__(self) -> str:
        return f"{self.seq} {self.action}"
