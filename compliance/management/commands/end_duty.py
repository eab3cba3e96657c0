"""End what a finished case still asks of later versions, before its day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from compliance import duties
from compliance.models import Case
from compliance.permissions import SYSTEM

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = (
        "End the duties of a case before their day, such as after the person objected: their key "
        "is destroyed, and later versions are not asked for this case any more."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("reference", help="reference of the case")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        case = Case.objects.filter(reference=options["reference"]).first()
        if case is None:
            raise CommandError("There is no case of this reference. Take it from the letter.")
        ended = duties.end_of(case, actor=SYSTEM)
        if not ended:
            raise CommandError("This case has no open duty.")
        self.stdout.write(f"{ended} ended.")
