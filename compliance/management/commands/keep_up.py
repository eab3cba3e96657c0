"""Put in order now what a worker puts in order when it starts and every hour."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from compliance import upkeep


class Command(BaseCommand):
    help = (
        "After a restored backup, before anybody works: shred again what was shredded, let links "
        "follow the database, remove orphaned files, sign the log."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        problems = upkeep.keep_up()
        if problems:
            raise CommandError("Not all could be done. " + " ".join(problems))
        self.stdout.write("Done.")
