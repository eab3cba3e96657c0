"""Which other people are asked about: first those whom a change is likeliest to harm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.plan import NEIGHBOURS
from evaluation.twins import shares_name
from language_models.matching import normalise

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from evaluation.plan import Person


def neighbour_class(subject: Person, other: Person) -> str:
    """Return the first of NEIGHBOURS that fits: a shared name, a shared value, the same kinds."""
    if shares_name(subject, other):
        return "namesake"
    shared = any(
        normalise(value) == normalise(other.facts.get(fact, ""))
        for fact, value in subject.facts.items()
        if value.strip()
    )
    return "same_value" if shared else "same_relation"


def chosen_others(
    subject: Person, others: Sequence[Person], count: int, rng: random.Random
) -> list[tuple[str, Person]]:
    """Return up to `count` people with their classes: of each class a third, if there are."""
    classes: dict[str, list[Person]] = {name: [] for name in NEIGHBOURS}
    for other in rng.sample(list(others), len(others)):
        classes[neighbour_class(subject, other)].append(other)
    share = -(-count // len(NEIGHBOURS))
    chosen = [(name, one) for name in NEIGHBOURS for one in classes[name][:share]]
    rest = [(name, one) for name in reversed(NEIGHBOURS) for one in classes[name][share:]]
    return [*chosen, *rest][:count]
