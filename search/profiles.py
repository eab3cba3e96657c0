"""Who is on file: the profile records of a dataset keyed by subject."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from language_models.matching import normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True)
class Profile:
    """A person on file; facts: fact name -> value as the records state it."""

    subject: str
    name: str
    native_name: str
    language: str
    email: str
    facts: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values; they are personal data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Profile:
        """Return the profile that `as_dict` wrote."""
        return cls(**stored)


def complete(row: Mapping[str, Any]) -> bool:
    """Whether a record of kind profile holds what `profiles` reads of it."""
    texts = (row.get(field) for field in ("name", "native_name", "language", "email"))
    facts = row.get("facts")
    return (
        isinstance(row["subject"], str)
        and all(isinstance(text, str) for text in texts)
        and isinstance(facts, dict)
        and all(isinstance(value, str) for value in facts.values())
    )


def profiles(lines: Iterable[str]) -> list[Profile]:
    """Return the profile records among the lines of a JSONL dataset."""
    found = []
    for line in lines:
        row = json.loads(line)
        if row["kind"] == "profile":
            found.append(
                Profile(
                    subject=row["subject"],
                    name=row["name"],
                    native_name=row["native_name"],
                    language=row["language"],
                    email=row["email"],
                    facts=row["facts"],
                )
            )
    return found


def by_name(people: Iterable[Profile], name: str) -> list[Profile]:
    """Return those whose name, in either script, is `name` (Unicode NFKC, case folded)."""
    wanted = normalise(name)
    return [
        person
        for person in people
        if wanted in (normalise(person.name), normalise(person.native_name))
    ]
