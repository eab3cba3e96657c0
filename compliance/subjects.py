"""The person behind a case as the heavy steps need them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .models import Case

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
            "contact": details["contact"],
            "facts": {},
        }
    return {
        "id": on_file["subject"],
        "name": on_file["name"],
        "native_name": on_file["native_name"],
        "contact": on_file["email"],
        "facts": on_file["facts"],
    }


def facts_asked(case: Case, wordings: dict[str, Any]) -> list[str]:
    """The fact the request names, or every kind of fact the model can be asked for."""
    named = case.subject.details["fact"]
    return [named] if named else [fact for fact in wordings if fact not in NOT_FACTS]
