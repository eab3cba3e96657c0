"""A new key-encryption key, without stopping anything."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from compliance import audit, vault
from compliance.key_files import KeyUnavailable
from compliance.permissions import SYSTEM


class Command(BaseCommand):
    help = "Make a new key-encryption key and wrap every data key anew under it."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            name, changed = vault.rotate()
        except KeyUnavailable as error:
            raise CommandError(str(error)) from None
        with transaction.atomic():
            audit.record("keys.rotated", actor=SYSTEM, kek=name, keys=changed)
        self.stdout.write(f"{changed} data keys are wrapped by the new key {name}.")
        for unused in vault.unused_keks():
            self.stdout.write(
                f"No longer used: keys/vault/{unused}.key. Keep it as long as you keep backups "
                "that need it; then remove it, and those backups can no longer be read."
            )
