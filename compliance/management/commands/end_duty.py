"""End what a finished case still asks of later versions, before its day."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Q

from compliance import duties
from compliance.key_files import KeyUnavailable
from compliance.models import Case, DutyEnd, User
from compliance.permissions import NotAllowed, staff

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = (
        "End the duties of a case before their day, as somebody in legal decided: their key is "
        "destroyed, and later versions are not asked for this case any more. The log names who."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("reference", help="reference of the case")
        parser.add_argument("--by", required=True, help="account of who decided: name or reference")
        reasons = "; ".join(f"{reason}: {reason.label}" for reason in DutyEnd)
        parser.add_argument("--reason", required=True, choices=DutyEnd.values, help=reasons)

    def handle(self, *args: Any, **options: Any) -> None:
        case = Case.objects.filter(reference=options["reference"]).first()
        if case is None:
            raise CommandError("There is no case of this reference. Take it from the letter.")
        named = Q(username=options["by"]) | Q(reference=options["by"])
        user = User.objects.filter(named, is_active=True).first()
        if user is None:
            raise CommandError("There is no active account of this name or reference.")
        reason = DutyEnd(options["reason"])
        try:
            ended = duties.end_by_hand(case, actor=staff(user), reason=reason, via="command")
        except (NotAllowed, KeyUnavailable) as refusal:
            raise CommandError(str(refusal)) from None
        self.stdout.write("1 duty ended." if ended == 1 else f"{ended} duties ended.")
