"""Organisations and the people who work for them."""

from __future__ import annotations

import secrets

from django.contrib.auth.models import AbstractUser
from django.db import models


class Role(models.TextChoices):
    """What a person may do; PERSON is who filed the request, SYSTEM is the worker."""

    OFFICER = "officer", "Compliance officer"
    LEGAL = "legal", "Legal"
    AUDITOR = "auditor", "Auditor"
    STEWARD = "steward", "Model steward"
    PERSON = "person", "Requester"
    SYSTEM = "system", "System"


STAFF_ROLES = (Role.OFFICER, Role.LEGAL, Role.AUDITOR, Role.STEWARD)


class Organisation(models.Model):
    """A controller: every case, model and dataset belongs to one."""

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=200)
    address = models.CharField(max_length=300)
    contact = models.EmailField(help_text="The data protection officer's address, named in letters")
    default_law = models.CharField(max_length=40, default="gdpr")

    def __str__(self) -> str:
        return self.name


def _user_reference() -> str:
    return f"u-{secrets.token_hex(4)}"


class User(AbstractUser):
    """A member of staff with one role; `reference` stands for them in log and report."""

    organisation = models.ForeignKey(Organisation, on_delete=models.PROTECT, null=True, blank=True)
    role = models.CharField(max_length=10, choices=[(r.value, r.label) for r in STAFF_ROLES])
    reference = models.CharField(max_length=20, unique=True, default=_user_reference)

    def __str__(self) -> str:
        return self.username
