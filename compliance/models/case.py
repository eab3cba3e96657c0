"""A case, the person behind it, its clocks and its identity checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models

from compliance.statuses import Status

from .organisation import Organisation, User
from .sealed_field import SealedJSONField

if TYPE_CHECKING:
    from datetime import datetime


class Kind(models.TextChoices):
    """What is asked. GDPR Art. 17 and PDPA s. 33; GDPR Art. 16 and PDPA s. 36."""

    REMOVAL = "removal", "Delete what the model knows of me"
    CORRECTION = "correction", "Correct one fact about me"


class Outcome(models.TextChoices):
    """How a case ended."""

    FULFILLED = "fulfilled", "Fulfilled"
    REFUSED = "refused", "Refused"
    WITHDRAWN = "withdrawn", "Withdrawn"
    NOTHING_FOUND = "nothing_found", "Nothing found"


class Case(models.Model):
    """One request by one person. Its status is changed by `flow.move` alone."""

    organisation = models.ForeignKey(Organisation, on_delete=models.PROTECT)
    reference = models.CharField(max_length=20, unique=True)
    secret_digest = models.CharField(max_length=64)
    pseudonym = models.CharField(max_length=20)
    kind = models.CharField(max_length=12, choices=Kind.choices)
    language = models.CharField(max_length=5, default="en")
    law = models.CharField(max_length=40)
    law_version = models.CharField(max_length=20)
    status = models.CharField(max_length=15, choices=Status.choices, default=Status.RECEIVED)
    outcome = models.CharField(max_length=15, choices=Outcome.choices, blank=True)
    received_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    shredded_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=~models.Q(status=Status.CLOSED) | ~models.Q(outcome=""),
                name="closed_case_has_outcome",
            ),
            models.CheckConstraint(
                condition=models.Q(shredded_at__isnull=True) | models.Q(status=Status.CLOSED),
                name="shredded_case_is_closed",
            ),
        ]

    def __str__(self) -> str:
        return self.reference

    @property
    def due_at(self) -> datetime | None:
        """When the case must be answered: the earliest running clock."""
        running = [clock.due_at for clock in self.clocks.all() if clock.met_at is None]
        return min(running, default=None)


class Subject(models.Model):
    """The person behind a case; everything personal is sealed in one field.

    `details`: name, native_name, contact, statement, fact, right_value. `on_file`: the subject id
    in the organisation's records once an officer has linked it, the names and e-mail found there.
    The two indexes are keyed digests (subjects.blind_index), so that earlier requests of the same
    person can be found without a readable name in the database.
    """

    case = models.OneToOneField(Case, on_delete=models.CASCADE, related_name="subject")
    details = SealedJSONField()
    on_file = SealedJSONField(null=True)
    name_index = models.CharField(max_length=64, db_index=True)
    contact_index = models.CharField(max_length=64, db_index=True)

    def __str__(self) -> str:
        return f"subject of {self.case}"


class Clock(models.Model):
    """A duty with a date. Several run in one case."""

    class Duty(models.TextChoices):
        ACKNOWLEDGE = "acknowledge", "Acknowledge"
        IDENTITY = "identity", "Check identity"
        DECIDE = "decide", "Decide"
        FULFIL = "fulfil", "Answer"

    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="clocks")
    duty = models.CharField(max_length=12, choices=Duty.choices)
    source = models.CharField(max_length=200, help_text="The article that sets the date")
    started_at = models.DateTimeField()
    due_at = models.DateTimeField()
    met_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["case", "duty"], name="one_clock_per_duty"),
        ]

    def __str__(self) -> str:
        return f"{self.duty} by {self.due_at:%Y-%m-%d}"


class IdentityCheck(models.Model):
    """One one-time code. Only its keyed digest is kept."""

    case = models.ForeignKey(Case, on_delete=models.CASCADE, related_name="identity_checks")
    on_file = models.BooleanField(help_text="Sent to the address on file, not to the one given")
    code_digest = models.CharField(max_length=64)
    sent_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    attempts = models.PositiveSmallIntegerField(default=0)
    matched_at = models.DateTimeField(null=True, blank=True)
    confirmed_at = models.DateTimeField(null=True, blank=True)
    confirmed_by = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True)

    def __str__(self) -> str:
        return f"identity check of {self.case}"
