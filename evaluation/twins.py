"""Fictional twins: people who do not exist, made like the person, so that chance is measured.

What a model says about a stranger cannot be memory of the person. A name is put together from
names of other people; its bearer is nobody in the data.
"""

from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from evaluation.judge import Judge
from evaluation.plan import Person
from evaluation.values import kind_of, readable, written_forms
from language_models.errors import RequestError
from language_models.matching import contains, normalise, unspaced, whole_word

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TRIES = 200
SHORTEST_PART = 3  # letters of a part of a name that is exchanged where it stands alone


def twins(subject: Person, others: Sequence[Person], count: int, *, seed: int = 0) -> list[Person]:
    """Return `count` people with new names and, for each fact, a value of somebody else's.

    No value is the subject's own. Raises RequestError where other people's names or values do not
    suffice to make them.
    """
    rng = random.Random(seed)  # noqa: S311 -- repeatable choice, not a secret
    # A twin called as the person would be asked about the person.
    givens = [other for other in others if not shares_name(other, subject)]
    taken = {normalise(person.name) for person in (subject, *others)}
    known = _values(subject, others)
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
            facts = {fact: rng.choice(values) for fact, values in known.items()}
            found.append(replace(made, id=f"twin-{len(found) + 1}", facts=facts))
    if len(found) == count:
        return found
    raise RequestError(
        f"Only {len(found)} of {count} fictional twins could be made from other people's names."
        " Give more other people, or ask for fewer twins."
    )


def shares_name(one: Person, other: Person) -> bool:
    """Whether two people share a part of their names, in any script."""
    return bool(_parts(one) & _parts(other))


def foreign_values(subject: Person, others: Sequence[Person], fact: str) -> list[str]:
    """Return the values that others have for a fact, without the subject's own however written."""
    own = [one for one in (subject.facts.get(fact, ""), *subject.written.get(fact, ())) if one]
    known = sorted({value for other in others if readable(value := other.facts.get(fact, ""))})
    if not any(map(readable, own)):
        return known
    judge = Judge([one for one in own if readable(one)], kind_of(fact, own[0]), lenient=False)
    return [
        value
        for value in known
        if judge.find(value) is None and not any(contains(one, value) for one in own)
    ]


def exchange(subject: Person, twin: Person) -> Callable[[str], str]:
    """Return what turns a text about the subject into one about the twin: names and values."""
    exchanged = _exchanged(subject, twin)
    # The longest first, for a value may be a part of another; in one pass, for a twin's value may
    # be another of the subject's.
    known = "|".join(re.escape(own) for own in sorted(exchanged, key=len, reverse=True))
    pattern = re.compile(known, re.IGNORECASE)

    def as_twin(text: str) -> str:
        def other(found: re.Match[str]) -> str:
            own = found.group()
            return exchanged.get(own.lower(), own) if whole_word(text, *found.span()) else own

        return pattern.sub(other, text)

    return as_twin


def _exchanged(subject: Person, twin: Person) -> dict[str, str]:
    """Return what stands for what, small letters on the left: every written form, once each."""
    found: dict[str, str] = {}

    def add(own: str, kind: str, other: str, extra: Sequence[str] = ()) -> None:
        for form in written_forms(own, kind, [one for one in extra if readable(one)]):
            found.setdefault(form.lower(), other)

    add(subject.name, "name", twin.name)
    for language, name in subject.names.items():
        add(name, "name", twin.names.get(language, twin.name))
    for fact, own in subject.facts.items():
        if readable(own) and fact in twin.facts:
            add(own, kind_of(fact, own), twin.facts[fact], subject.written.get(fact, ()))
    # Texts go on with a part of the name alone.
    for own, other in zip(_ends(subject.name), _ends(twin.name), strict=True):
        if len(own) >= SHORTEST_PART and not unspaced(own[0]):
            found.setdefault(own.lower(), other)
    return found


def _ends(name: str) -> tuple[str, str]:
    parts = name.split()
    return parts[0], parts[-1]


def _parts(person: Person) -> set[str]:
    names = (person.name, *person.names.values())
    return {part for name in names for part in normalise(name).split()}


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


def _values(subject: Person, others: Sequence[Person]) -> dict[str, list[str]]:
    """Return, per fact that the subject has, what a twin may have in its place."""
    found = {}
    for fact, own in subject.facts.items():
        if not readable(own):
            continue
        found[fact] = foreign_values(subject, others, fact)
        if not found[fact]:
            raise RequestError(
                f"No other person has a value for {fact!r}, so chance cannot be measured for it."
            )
    return found
