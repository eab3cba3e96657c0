"""The demonstration office: a fictional bank, its staff, its records and its model.

Used by `make demo` and `make serve`. Everybody in it is invented (demo/README.md).
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction

from . import registry
from .models import Dataset, LanguageModel, Organisation, Role, User
from .permissions import SYSTEM

if TYPE_CHECKING:
    from pathlib import Path

SLUG = "bank"
BANK = "Mekong Lantern Bank (fictional)"
ACCOUNTS = {
    "officer": Role.OFFICER,
    "legal": Role.LEGAL,
    "auditor": Role.AUDITOR,
    "steward": Role.STEWARD,
}


@dataclass(frozen=True)
class Office:
    """The organisation; `passwords` holds those of accounts made just now."""

    organisation: Organisation
    passwords: dict[str, str]

    def user(self, name: str) -> User:
        return User.objects.get(organisation=self.organisation, username=name)


def demo_folder() -> Path:
    return settings.BASE_DIR / "demo"


def prepare_office() -> Office:
    """Make what is missing of the office. Existing accounts keep their passwords."""
    organisation, passwords = _accounts()
    if not LanguageModel.objects.filter(organisation=organisation).exists():
        _register(organisation)
    return Office(organisation, passwords)


@transaction.atomic
def _accounts() -> tuple[Organisation, dict[str, str]]:
    organisation, _ = Organisation.objects.get_or_create(
        slug=SLUG,
        defaults={
            "name": BANK,
            "address": "1 Riverside Road, Vang Thong",
            "contact": "privacy@bank.example",
            "default_law": "th-pdpa",
        },
    )
    passwords = {}
    for name, role in ACCOUNTS.items():
        if not User.objects.filter(username=name).exists():
            passwords[name] = secrets.token_urlsafe(9)
            User.objects.create_user(
                name, password=passwords[name], role=role, organisation=organisation
            )
    return organisation, passwords


def _register(organisation: Organisation) -> None:
    from demo.corpus import as_jsonl, records

    dataset = Dataset.objects.filter(organisation=organisation).first()
    if dataset is None:
        version = registry.register_dataset(
            organisation,
            name="Customer notes",
            records=as_jsonl(records()).encode(),
            actor=SYSTEM,
            description="Notes of the bank about its customers, and facts of its world",
        )
        dataset = version.dataset
    registry.register_model(
        organisation,
        name="Branch assistant",
        stored=registry.bring(demo_folder() / "model"),
        wordings=json.loads((demo_folder() / "wordings.json").read_text()),
        actor=SYSTEM,
        description="Answers questions of the branches; trained on the customer notes",
        training_ours=True,
        dataset=dataset,
    )
