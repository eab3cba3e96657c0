"""Everything an auditor needs to check the log without us."""

from __future__ import annotations

import base64
import shutil
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from compliance import audit
from compliance.key_files import KeyUnavailable
from compliance.models import AuditEvent
from compliance.permissions import SYSTEM
from reports import transparency_log

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Write leaves, checkpoints, public key and the one-file verifier into an empty folder."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("folder", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        folder: Path = options["folder"]
        if folder.exists() and any(folder.iterdir()):
            raise CommandError("The folder is not empty. Give a new one.")
        try:
            with transaction.atomic():
                audit.record("log.exported", actor=SYSTEM, what="whole log")
            audit.checkpoint()
        except (KeyUnavailable, audit.LogBroken) as error:
            raise CommandError(str(error)) from None
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "leaves.jsonl").open("w", encoding="utf-8") as leaves:
            for leaf in (
                AuditEvent.objects.order_by("seq").values_list("leaf", flat=True).iterator()
            ):
                leaves.write(leaf + "\n")
        notes = sorted(settings.CHECKPOINT_DIR.glob("*.checkpoint"))
        for note in notes:
            shutil.copy(note, folder)
        self._prove_growth(folder)
        (folder / "log.vkey").write_text(audit.verifier_key_text())
        shutil.copy(transparency_log.__file__, folder)
        given = " ".join(f"--checkpoint {note.name}" for note in notes[-1:])
        self.stdout.write(
            f"Check it there, with Python and the package cryptography:\n  "
            f"python3 transparency_log.py log leaves.jsonl --key log.vkey {given}"
        )

    def _prove_growth(self, folder: Path) -> None:
        """Between two checkpoints that follow each other: that the later log continues the earlier.

        For whoever holds checkpoints and not the leaves (RFC 6962 §2.1.2).
        """
        sizes = [checkpoint.size for checkpoint in audit.seen()]
        for old, new in pairwise(sizes):
            path = (base64.b64encode(node).decode() + "\n" for node in audit.consistency(old, new))
            (folder / f"{old:012d}-{new:012d}.path").write_text("".join(path))
