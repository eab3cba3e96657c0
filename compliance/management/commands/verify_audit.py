"""Verify the chain of the log of record."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from compliance import audit
from compliance.models import AuditEvent


class Command(BaseCommand):
    help = "Recompute every hash of the log; exit status 1 names the first event that does not fit."

    def handle(self, *args: Any, **options: Any) -> None:
        broken = audit.first_broken()
        if broken is not None:
            raise CommandError(f"Event {broken} is not as it was written, or one is missing.")
        last = AuditEvent.objects.last()
        head = last.chain if last is not None else audit.GENESIS
        self.stdout.write(f"{AuditEvent.objects.count()} events, unbroken. Head {head}")
