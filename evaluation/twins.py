"""Fictional twins: people who do not exist, made like the person, so that chance is measured.

What a model says about a stranger cannot be memory of the person. A name is put together from
names of other people; its bearer is nobody in the data.
"""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from evaluation.plan import Person
from language_models.errors import RequestError
from language_models.matching import normalise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TRIES = 200


def twins(subject: Person, others: Sequence[Person], count: int, *, seed: int = 0) -> list[Person]:
    """Return `count` people with new names and, for each fact, a value of somebody else's.

    No value is the subject's own. Raises RequestError where other people's names or values do not
    suffice to make them.
    """
    rng = random.Random(seed)  # noqa: S311 -- repeatable choice, not a secret
    # A twin called as the person would be asked about the person.
    givens = [other for other in others if not shares_name(other, subject)]
    taken = {normalise(person.name) for person in (subject, *others)}
    found: list[Person] = []
    for _ in range(TRIES * count):
        if len(found) == count:
            return found
        if len(givens) < 2:
            break
        first, last = rng.sample(givens, 2)
        made = _named(subject, first, last)
        if normalise(made.name) not in taken:
            taken.add(normalise(made.name))
            facts = _values(subject, others, rng)
            found.append(replace(made, id=f"twin-{len(found) + 1}", facts=facts))
    if len(found) == count:
        return found
    raise RequestError(
        f"Only {len(found)} of {count} fictional twins could be made from other people's names."
        " Give more other people, or ask for fewer twins."
    )


def shares_name(one: Person, other: Person) -> bool:
    """Whether two people share a part of their names."""
    return bool({*normalise(one.name).split()} & {*normalise(other.name).split()})


def as_twin(text: str, subject: Person, twin: Person) -> str:
    """Return a text about the subject as it would be about the twin: name and values exchanged."""
    exchanged = {subject.name: twin.name}
    exchanged |= {subject.names[key]: twin.names[key] for key in subject.names if key in twin.names}
    exchanged |= {subject.facts[key]: twin.facts[key] for key in subject.facts if key in twin.facts}
    # The longest first, for a value may be a part of another; in one pass, for a twin's value may
    # be another of the subject's.
    known = "|".join(re.escape(own) for own in sorted(exchanged, key=len, reverse=True))
    return re.sub(known, lambda found: exchanged[found.group()], text)


def _named(subject: Person, first: Person, last: Person) -> Person:
    languages = subject.names.keys() & first.names.keys() & last.names.keys()
    return Person(
        "",
        _joined(first.name, last.name),
        {},
        subject.language,
        {key: _joined(first.names[key], last.names[key]) for key in sorted(languages)},
    )


def _joined(first: str, last: str) -> str:
    """Return the first part of one name and the rest of another; one part alone stays whole."""
    front, back = first.split()[0], last.split()[1:] or last.split()
    return " ".join([front, *back])


def _values(subject: Person, others: Sequence[Person], rng: random.Random) -> Mapping[str, str]:
    facts = {}
    for fact, own in subject.facts.items():
        known = sorted({other.facts[fact] for other in others if other.facts.get(fact)} - {own})
        if not known:
            raise RequestError(
                f"No other person has a value for {fact!r}, so chance cannot be measured for it."
            )
        facts[fact] = rng.choice(known)
    return facts
