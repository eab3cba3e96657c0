"""Verify the log of record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from compliance import audit, audit_check
from compliance.key_files import KeyUnavailable
from reports.transparency_log import Checkpoint, ProofError, open_checkpoint

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Recompute every hash of the log and hold it against the checkpoints that were signed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--checkpoint",
            type=Path,
            action="append",
            default=[],
            help="a checkpoint that somebody else kept (may be given several times)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = audit_check.verify([_read(path) for path in options["checkpoint"]])
        except KeyUnavailable as error:
            raise CommandError(str(error)) from None
        if found.problem is not None:
            raise CommandError(f"The log does not verify. {found.problem}")
        if found.clock_back:
            self.stdout.write(
                f"Note: {found.clock_back} events are dated before the one they follow; a clock "
                "was set back. The order of the log does not rest on it."
            )
        self.stdout.write(
            f"{found.size} events, unbroken, consistent with {found.checkpoints} signed "
            f"checkpoints. Root {found.root}"
        )
        self.stdout.write(
            "Not shown by this: that an owner of the signing key did not write the whole log anew. "
            "Checkpoints in delivered documents would contradict it."
        )


def _read(path: Path) -> Checkpoint:
    try:
        return open_checkpoint(path.read_text(encoding="utf-8"), audit.verifier_key())
    except (OSError, UnicodeDecodeError, ProofError) as error:
        reason = str(error) if isinstance(error, ProofError) else "it cannot be read"
        raise CommandError(f"The checkpoint {path.name} cannot be used: {reason}") from None
