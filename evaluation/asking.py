"""In which words a fact is asked for: a steward's own wordings and the shipped templates.

The list for one fact has the same order whoever is asked about, so that a question about a twin
stands at the same place as the one about the person.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import product, zip_longest
from typing import TYPE_CHECKING, TypeVar

from evaluation.prompts import Prompt, prompts
from evaluation.twins import foreign_values
from language_models.matching import normalise
from language_models.positions import fill

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Mapping, Sequence

    from evaluation.library import Library
    from evaluation.plan import Person

T = TypeVar("T")
OWN = "own"  # the form of a steward's own wordings
SHORTEST_SHARED = 12  # bytes of UTF-8; shorter turns stand in any text


@dataclass(frozen=True)
class Asking:
    """wordings: fact -> prompts with one "{}". languages: of the shipped templates, none: no
    templates. relations: fact -> its name in the templates. examples: people for few-shot prompts,
    of whom none may show the subject's value, whoever is asked about. templates: the shipped ones
    and a user's own.
    """

    wordings: Mapping[str, Sequence[str]]
    lead_ins: Sequence[str]
    language: str
    languages: Sequence[str]
    forms: Sequence[str]
    relations: Mapping[str, str]
    subject: Person
    examples: Sequence[Person]
    templates: Library

    def about(self, person: Person, fact: str) -> list[Prompt]:
        """Return every question for a fact, the own wordings first."""
        own = [
            Prompt((lead_in + fill(wording, person.name),), OWN, self.language)
            for wording, lead_in in product(self.wordings.get(fact, ()), self.lead_ins)
        ]
        if not self.languages:
            return own
        shown = set(foreign_values(self.subject, self.examples, fact))
        return own + prompts(
            person,
            fact,
            relation=self.relations.get(fact, fact),
            languages=self.languages,
            forms=self.forms,
            examples=[one for one in self.examples if one.facts.get(fact) in shown],
            library=self.templates,
        )


def order(asked: Sequence[Prompt], rng: random.Random) -> list[int]:
    """Return the places, of equals the first, so that every form and language comes early."""
    strata: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    # A question that comes twice is one prompt.
    first = {(one.turns, one.chat): place for place, one in reversed([*enumerate(asked)])}
    for place in sorted(first.values()):
        one = asked[place]
        strata[one.form, one.language].append(place)
    for places in strata.values():
        rng.shuffle(places)
    groups = list(strata.values())
    rng.shuffle(groups)
    return in_turn(groups)


def in_turn(lists: Iterable[Sequence[T]]) -> list[T]:
    """Return the first of each list, then the second of each, until all are used up."""
    turns = zip_longest(*([(one,) for one in some] for some in lists), fillvalue=())
    return [one for turn in turns for some in turn for one in some]


def stands_in(turns: Sequence[str], given: Sequence[str]) -> bool:
    """Whether a text that the method is given (normalised) is one of the turns, or holds one."""
    asked = [normalise(turn) for turn in turns]
    return any(
        turn == text or (len(turn.encode()) >= SHORTEST_SHARED and turn in text)
        for turn in asked
        for text in given
    )
