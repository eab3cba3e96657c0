"""An organisation with one account a role, for real use."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from compliance.law import laws
from compliance.models import Organisation, User
from compliance.models.organisation import STAFF_ROLES

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    help = "Create an organisation and one account for each role; prints the passwords once."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--slug", required=True, help="short name in commands and the API")
        parser.add_argument("--name", required=True, help="as it stands in letters")
        parser.add_argument("--address", required=True, help="as it stands in letters")
        parser.add_argument("--contact", required=True, help="e-mail for data protection")
        parser.add_argument("--law", default="gdpr", choices=sorted(laws()))

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        slug = options["slug"]
        if Organisation.objects.filter(slug=slug).exists():
            raise CommandError(f"There is an organisation {slug!r} already. Choose another slug.")
        organisation = Organisation.objects.create(
            slug=slug,
            name=options["name"],
            address=options["address"],
            contact=options["contact"],
            default_law=options["law"],
        )
        for role in STAFF_ROLES:
            password = secrets.token_urlsafe(12)
            name = f"{role.value}@{slug}"
            User.objects.create_user(name, password=password, role=role, organisation=organisation)
            self.stdout.write(f"{name:24} {password}")
