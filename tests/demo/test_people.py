"""The fictional people are always the same, and no value is mistaken for another."""

from __future__ import annotations

from demo import people as demo_people
from demo.people import PEOPLE_FILE, RELATIONS, as_json, people


def test_people_json_is_what_the_generator_writes() -> None:
    assert PEOPLE_FILE.read_text(encoding="utf-8") == as_json(people())


def test_people_are_sixteen_of_each_language() -> None:
    languages = [person.language for person in people()]

    assert {code: languages.count(code) for code in set(languages)} == dict.fromkeys(
        ("th", "ja", "lo", "en"), 16
    )


def test_identifying_fields_are_unique() -> None:
    persons = people()

    for field in ("id", "name", "native_name", "telephone", "email"):
        assert len({getattr(person, field) for person in persons}) == 64, field


def test_native_names_are_in_their_script() -> None:
    blocks = {"th": (0x0E00, 0x0E7F), "lo": (0x0E80, 0x0EFF), "ja": (0x3040, 0x9FFF)}

    for person in people():
        if person.language == "en":
            assert person.native_name == person.name
            assert person.name.encode("latin-1").decode("latin-1") == person.name
        else:
            low, high = blocks[person.language]
            assert all(low <= ord(c) <= high for c in person.native_name if c != " ")


def test_values_do_not_contain_each_other() -> None:
    persons = people()
    values = {value for person in persons for value in person.facts.values()}

    assert [(a, b) for a in values for b in values if a != b and a in b] == []


def test_values_say_nothing_of_the_name() -> None:
    for person in people():
        parts = [part.casefold() for part in person.name.split()]
        for relation in RELATIONS:
            assert not any(part in person.facts[relation].casefold() for part in parts)


def test_another_seed_gives_other_people() -> None:
    assert people(demo_people.SEED + 1) != people()
