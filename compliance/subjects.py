"""The person behind a case: as the heavy steps need them, and as look-ups find them."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from . import vault
from .models import Case, Organisation

if TYPE_CHECKING:
    from django.db.models import QuerySet

# Keys of a wordings file that are not kinds of fact.
NOT_FACTS = ("lead_ins", "world")


def person(case: Case) -> dict[str, Any]:
    """The person as the heavy steps need them: from the records, or as the request says."""
    subject = case.subject
    details = subject.details
    on_file = subject.on_file
    if on_file is None:
        return {
            "id": None,
            "name": details["name"],
            "native_name": "",
            "language": "en",
            "contact": details["contact"],
            "facts": {},
        }
    return {
        "id": on_file["subject"],
        "name": on_file["name"],
        "native_name": on_file["native_name"],
        "language": on_file["language"],
        "contact": on_file["email"],
        "facts": on_file["facts"],
    }


def facts_asked(case: Case, wordings: dict[str, Any]) -> list[str]:
    """The fact the request names, or every kind of fact the model can be asked for."""
    named = case.subject.details["fact"]
    return [named] if named else [fact for fact in wordings if fact not in NOT_FACTS]


def blind_index(identifier: str) -> str:
    """The keyed digest of a name or address, as people write it differently (case, width, spaces).

    It finds equal identifiers without a readable one in the database.
    """
    plain = " ".join(unicodedata.normalize("NFKC", identifier).casefold().split())
    return vault.keyed_digest("identifier", plain)


def cases_of(organisation: Organisation, identifier: str) -> QuerySet[Case]:
    """The organisation's cases whose requester gave this name or address."""
    index = blind_index(identifier)
    found = Case.objects.filter(organisation=organisation)
    return found.filter(subject__name_index=index) | found.filter(subject__contact_index=index)
