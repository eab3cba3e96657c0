"""Step 1, intake: a request becomes a case with a reference, a secret and a clock."""

from __future__ import annotations

import secrets
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, time

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils import timezone

from compliance import audit, notify, registry
from compliance.law import deadlines, law
from compliance.models import Case, Clock, Kind, Organisation, Subject
from compliance.permissions import PERSON, Actor
from compliance.secret import digest_of_secret, new_reference, new_secret
from compliance.subjects import blind_index

LIMITS = {"name": 200, "contact": 254, "statement": 4000, "fact": 60, "right_value": 200}


@dataclass(frozen=True)
class Request:
    """What a person files. `fact` and `right_value` belong to a correction."""

    kind: str
    name: str
    contact: str
    statement: str = ""
    fact: str = ""
    right_value: str = ""
    language: str = "en"
    law: str = ""

    def details(self) -> dict[str, str]:
        """The personal part, to be sealed."""
        return {name: getattr(self, name).strip() for name in LIMITS}


def check(request: Request) -> None:
    """Raise ValidationError (field → what to do) before anything is stored."""
    errors: dict[str, str] = {}
    details = request.details()
    for field, limit in LIMITS.items():
        if len(details[field]) > limit:
            errors[field] = f"Shorten this to {limit} characters."
        # Line and paragraph separators would break records and letters where nobody sees them.
        if field != "statement" and any(
            unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in details[field]
        ):
            errors[field] = "Write this in one line without control characters."
    if not details["name"]:
        errors["name"] = "Enter the name under which we may hold data about you."
    if not details["contact"]:
        errors["contact"] = "Enter an e-mail address at which we can answer you."
    else:
        try:
            validate_email(details["contact"])
        except ValidationError:
            errors["contact"] = "Enter an e-mail address such as name@example.org."
    if request.kind not in Kind.values:
        errors["kind"] = "Choose what you ask for."
    if request.kind == Kind.CORRECTION:
        if not details["fact"]:
            errors["fact"] = "Choose which fact is wrong."
        if not details["right_value"]:
            errors["right_value"] = "Enter the right value."
    if errors:
        raise ValidationError(errors)


@transaction.atomic
def receive(
    organisation: Organisation, request: Request, *, actor: Actor = PERSON
) -> tuple[Case, str]:
    """Store the request, start its clocks, acknowledge it. Returns the case and its secret.

    The secret is shown once and kept only as a digest. Raises ValidationError.
    """
    check(request)
    if request.fact and request.fact not in registry.known_facts(organisation):
        raise ValidationError({"fact": "Choose one of the facts that are offered."})
    now = timezone.now()
    pack = law(request.law or organisation.default_law)
    secret = new_secret()
    case = Case.objects.create(
        organisation=organisation,
        reference=new_reference(now.year),
        secret_digest=digest_of_secret(secret),
        pseudonym=f"Person {secrets.token_hex(2).upper()}",
        kind=request.kind,
        language=request.language,
        law=pack.id,
        law_version=pack.version,
        received_at=now,
    )
    details = request.details()
    Subject.objects.create(
        case=case,
        details=details,
        name_index=blind_index(details["name"]),
        contact_index=blind_index(details["contact"]),
    )
    due = deadlines.due_date(pack.deadline, now.date())
    Clock.objects.create(
        case=case,
        duty=Clock.Duty.FULFIL,
        source=pack.deadline["source"],
        started_at=now,
        due_at=datetime.combine(due, time(23, 59, 59), tzinfo=UTC),
    )
    audit.record("case.received", actor=actor, case=case, kind=case.kind, law=case.law)
    notify.acknowledge(case)
    return case, secret
