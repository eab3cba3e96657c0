"""Let all jobs stand still, or go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from compliance import jobs, pause
from compliance.permissions import SYSTEM, NotAllowed

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Pause all jobs (--reason) or let them go on (--resume). Running steps are finished."

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--reason", help="shown beside waiting jobs; no personal data")
        what.add_argument("--resume", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["resume"]:
                pause.resume(actor=SYSTEM)
                jobs.sweep()
            else:
                pause.pause(actor=SYSTEM, reason=options["reason"])
        except NotAllowed as refusal:
            raise CommandError(str(refusal)) from None
        self.stdout.write("The jobs go on." if options["resume"] else "All jobs are paused.")
