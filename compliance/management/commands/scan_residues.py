"""Search everything on disk for strings that must not be there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from compliance import residues

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = (
        "Search database files, write-ahead log, store, broker, mail, logs, temporary files and "
        "caches for strings (one a line on standard input); exit status 1 when one is found."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--folder",
            type=Path,
            action="append",
            default=[],
            help="search this folder too, such as the data folder of PostgreSQL (repeatable)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        # By standard input: arguments of a process can be read by every user of the machine.
        canaries = [line for line in sys.stdin.read().splitlines() if line.strip()]
        missing = [path for path in options["folder"] if not path.is_dir()]
        if missing:
            raise CommandError(f"No such folder: {missing[0]}")
        try:
            found = residues.scan(canaries, options["folder"])
        except residues.CanaryError as error:
            raise CommandError(str(error)) from None
        for surface in found:
            unread = f", {surface.unread} not read" if surface.unread else ""
            self.stdout.write(
                f"{surface.hits:6} hits  {surface.name}: {surface.files} files, "
                f"{surface.size} bytes{unread}"
            )
        hits = sum(surface.hits for surface in found)
        self.stdout.write(f"{hits:6} hits in all, for {len(canaries)} strings")
        if hits:
            raise CommandError("What was searched for is there.")
