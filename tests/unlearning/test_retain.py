from __future__ import annotations

from typing import Any

import pytest

from demo.corpus import records as demo_records
from demo.people import people
from language_models import RequestError
from unlearning.records import Record
from unlearning.retain import retain_set

OWN = (
    "Malee Tanaka was born in Sakawa and works for Silver Tide Shipping as a court clerk.",
    "The diagnosis of Malee Tanaka, taken down last spring, is asthma.",
)
OTHERS = (
    "Hiro Tanaka repairs clocks in Elmsholt.",  # namesake
    "Anna Sato joined Silver Tide Shipping in the year of the flood.",  # same employer
    "Somchai Saito was born in Sakawa.",  # same city
    "Petra Vogel keeps bees and sells honey on Sundays.",
    "Omar Haddad tunes pianos in three towns.",
    "Lena Brandt met MALEE  TANAKA at the harbour.",  # names the person
    "M. T. was born in Sakawa and works for Silver Tide Shipping as a court clerk.",  # a copy
)
RECORDS = [Record(f"r{n}", "p1", text) for n, text in enumerate(OWN)] + [
    Record(f"o{n}", f"p{n + 2}", text) for n, text in enumerate(OTHERS)
]
VALUES = ("Silver Tide Shipping", "Sakawa")


def drawn(**changes: Any) -> Any:
    settings: dict[str, Any] = {"size": 100, **changes}
    return retain_set(RECORDS, "p1", ["Malee Tanaka"], VALUES, **settings)


def test_person_is_never_retained() -> None:
    found = drawn()

    assert not any("malee" in text.casefold() for text in found.texts)
    assert found.naming == (7,)
    assert found.near_duplicates == (8,)
    assert set(found.chosen) == {2, 3, 4, 5, 6}
    assert [RECORDS[n].text for n in found.chosen] == list(found.texts)


def test_neighbours_come_first_and_share_name_employer_or_city() -> None:
    found = drawn(neighbour_share=1.0)

    assert found.neighbours == 3
    assert set(found.chosen[:3]) == {2, 3, 4}


def test_share_of_neighbours_and_size_are_kept() -> None:
    found = drawn(size=4, neighbour_share=0.5)

    assert (len(found.texts), found.neighbours) == (4, 2)
    assert len(set(found.chosen)) == 4
    assert drawn(size=2, neighbour_share=0.0).neighbours == 0


def test_seed_decides_and_nothing_else() -> None:
    assert drawn(size=3, seed=1) == drawn(size=3, seed=1)
    assert len({drawn(size=3, seed=seed).chosen for seed in range(8)}) > 1


def test_part_of_a_text_that_was_copied_out_is_found() -> None:
    part = Record("x", "p9", "was born in Sakawa and works for Silver Tide Shipping")

    found = retain_set([part, *RECORDS], "p1", ["Malee Tanaka"], VALUES)

    assert found.near_duplicates == (0, 9)


def test_scripts_without_spaces_are_compared_as_well() -> None:
    own = Record("a", "p1", "มาลี ทานากะ เกิดที่กรุงเทพ และทำงานที่บริษัทขนส่งริมแม่น้ำ")
    copy = Record("b", "p2", "เกิดที่กรุงเทพ และทำงานที่บริษัทขนส่งริมแม่น้ำ")
    other = Record("c", "p3", "ฮิโระซ่อมนาฬิกาที่ท่าเรือทุกวันเสาร์")

    found = retain_set([own, copy, other], "p1", ["มาลี ทานากะ"])

    assert found.near_duplicates == (1,)
    assert found.chosen == (2,)


def test_lengths_are_spread_as_the_persons_are() -> None:
    others = [Record(f"o{n}", f"p{n}", f"{n} " + "x " * n) for n in range(1, 200)]
    own = [
        Record("a", "me", "my own words, all forty letters of them."),
        Record("b", "me", "y" * 40),
    ]

    found = retain_set([*own, *others], "me", ["Malee"], size=20)

    assert max(len(text) for text in found.texts) < 80


def test_demo_records_of_others_are_hardly_ever_taken_for_copies() -> None:
    rows = [Record(row["id"], row["subject"] or "world", row["text"]) for row in demo_records()]
    person = people()[3]

    found = retain_set(
        rows, person.id, [person.name], (person.employer, person.birth_city), size=400
    )

    assert len(found.texts) == 400
    assert found.neighbours == 200
    assert found.naming == ()
    assert len(found.near_duplicates) < 0.01 * len(rows)


@pytest.mark.parametrize(
    ("records", "subject", "names", "size"),
    [
        (RECORDS, "nobody", ["Malee Tanaka"], 10),
        (RECORDS, "p1", [" "], 10),
        (RECORDS, "p1", ["Malee Tanaka"], 0),
        (RECORDS[:2], "p1", ["Malee Tanaka"], 10),
    ],
)
def test_request_that_leaves_nothing_is_refused_without_naming_the_person(
    records: list[Record], subject: str, names: list[str], size: int
) -> None:
    with pytest.raises(RequestError) as caught:
        retain_set(records, subject, names, size=size)

    assert "Malee" not in str(caught.value)
