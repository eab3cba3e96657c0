from __future__ import annotations

import random
from collections import Counter

import pytest

from evaluation import Person
from evaluation.neighbours import chosen_others, neighbour_class

SUBJECT = Person("s", "Malee Tanaka", {"city": "Kyoto", "employer": ""}, names={"th": "มาลี ทานากะ"})


@pytest.mark.parametrize(
    ("other", "found"),
    [
        (Person("a", "malee Sato", {"city": "Marn"}), "namesake"),
        (Person("a", "Anna Sato", {}, names={"th": "มาลี ซาโตะ"}), "namesake"),
        (Person("a", "Tanaka Anna", {"city": "Kyoto"}), "namesake"),
        (Person("a", "Anna Sato", {"city": " KYOTO"}), "same_value"),
        (Person("a", "Anna Sato", {"city": "Marn", "employer": ""}), "same_relation"),
        (Person("a", "Anna Sato", {}), "same_relation"),
    ],
)
def test_each_other_person_stands_in_the_nearest_class(other: Person, found: str) -> None:
    assert neighbour_class(SUBJECT, other) == found


@pytest.mark.parametrize(
    ("there", "count", "expected"),
    [
        ((9, 9, 9), 6, (2, 2, 2)),
        ((1, 9, 9), 6, (1, 2, 3)),
        ((0, 1, 9), 6, (0, 1, 5)),
        ((9, 0, 0), 6, (6, 0, 0)),
        ((1, 1, 1), 6, (1, 1, 1)),
        ((9, 9, 9), 0, (0, 0, 0)),
    ],
)
def test_each_class_gets_a_third_where_there_are_enough(
    there: tuple[int, int, int], count: int, expected: tuple[int, int, int]
) -> None:
    kinds = (("Malee", "Marn"), ("Anna", "Kyoto"), ("Anna", "Marn"))
    others = [
        Person(f"{given}-{city}-{n}", f"{given} Sato{n}", {"city": city})
        for (given, city), many in zip(kinds, there, strict=True)
        for n in range(many)
    ]

    chosen = chosen_others(SUBJECT, others, count, random.Random(1))  # noqa: S311

    counts = Counter(name for name, _ in chosen)
    assert tuple(counts[name] for name in ("namesake", "same_value", "same_relation")) == expected
    assert len({one.id for _, one in chosen}) == len(chosen)
    assert all(neighbour_class(SUBJECT, one) == name for name, one in chosen)
