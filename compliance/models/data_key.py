"""Data keys: one for each case, dataset version and duty, and those of the house."""

from __future__ import annotations

import uuid

from django.db import models

from .case import Case


class KeyPurpose(models.TextChoices):
    """What a data key seals."""

    CASE = "case", "Everything personal of one case"
    DATASET = "dataset", "One version of a dataset"
    DUTY = "duty", "The questions of one duty"
    HOUSE = "house", "Reports, wordings and sessions"
    INDEX = "index", "Keyed digests for look-up"


class DataKey(models.Model):
    """A 256-bit key, wrapped by the key-encryption key `kek`, which is a file elsewhere.

    A destroyed key keeps its row, without the key: what it sealed can no longer be read.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    purpose = models.CharField(max_length=8, choices=KeyPurpose.choices)
    case = models.OneToOneField(
        Case, on_delete=models.PROTECT, null=True, blank=True, related_name="data_key"
    )
    kek = models.CharField(max_length=16)
    wrapped = models.CharField(max_length=120, blank=True)
    created_at = models.DateTimeField()
    destroyed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(destroyed_at__isnull=True) ^ models.Q(wrapped=""),
                name="destroyed_key_is_gone",
            ),
            models.CheckConstraint(
                condition=models.Q(purpose="case", case__isnull=False)
                | ~models.Q(purpose="case") & models.Q(case__isnull=True),
                name="case_key_names_its_case",
            ),
            models.UniqueConstraint(
                fields=["purpose"],
                condition=models.Q(purpose__in=["house", "index"]),
                name="one_house_and_one_index_key",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} key {self.id}"
