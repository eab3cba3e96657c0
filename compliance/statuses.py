"""The statuses of a case: words, colours and the step each belongs to."""

from __future__ import annotations

from django.db import models


class Status(models.TextChoices):
    """Where a case stands. flow.py says how it moves."""

    RECEIVED = "received", "Received"
    IDENTITY = "identity", "Identity check"
    TARGETS = "targets", "Finding targets"
    METHOD = "method", "Selecting methods"
    APPROVAL = "approval", "Awaiting approval"
    APPLICATION = "application", "Applying"
    VERIFICATION = "verification", "Verifying"
    DOCUMENTATION = "documentation", "Report and letter"
    CLOSED = "closed", "Closed"

    @property
    def step(self) -> int:
        """Which of the six steps this status belongs to; 7 is documentation and closure."""
        return _STEP[self]

    @property
    def colour(self) -> str:
        """The badge's colour in the pages."""
        return _COLOUR[self]


_STEP = {
    Status.RECEIVED: 1,
    Status.IDENTITY: 2,
    Status.TARGETS: 3,
    Status.METHOD: 4,
    Status.APPROVAL: 4,
    Status.APPLICATION: 5,
    Status.VERIFICATION: 6,
    Status.DOCUMENTATION: 7,
    Status.CLOSED: 7,
}

_COLOUR = {
    Status.RECEIVED: "blue",
    Status.IDENTITY: "azure",
    Status.TARGETS: "indigo",
    Status.METHOD: "purple",
    Status.APPROVAL: "orange",
    Status.APPLICATION: "cyan",
    Status.VERIFICATION: "teal",
    Status.DOCUMENTATION: "lime",
    Status.CLOSED: "secondary",
}

STEP_NAMES = {
    1: "Intake",
    2: "Identity",
    3: "Targets",
    4: "Method",
    5: "Application",
    6: "Verification",
}
