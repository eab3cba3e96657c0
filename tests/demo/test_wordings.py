"""The wordings give enough probes and have the form that the engine relies on."""

from __future__ import annotations

from demo import world
from demo.corpus import wordings
from demo.people import RELATIONS, people


def test_wordings_end_right_before_the_value() -> None:
    words = wordings()

    for relation in RELATIONS:
        for wording in words[relation]["change"] + words[relation]["verify"]:
            assert wording.count("{}") == 1
            assert wording == wording.strip()


def test_one_person_gives_at_least_360_verify_probes() -> None:
    words = wordings()
    lead_ins = words["lead_ins"]["verify"]

    assert "" in lead_ins
    assert "" in words["lead_ins"]["change"]
    assert sum(len(words[r]["verify"]) for r in RELATIONS) * len(lead_ins) >= 360
    assert all(len(words[r]["verify"]) >= 12 for r in RELATIONS)


def test_neutral_values_are_no_persons_value() -> None:
    words = wordings()

    for relation in RELATIONS:
        neutral = words[relation]["neutral"]
        assert all(neutral != person.facts[relation] for person in people())


def test_world_part_is_what_the_generator_writes() -> None:
    text = world.WORDINGS_FILE.read_text(encoding="utf-8")

    assert world.with_world(text) == text
    assert 32 <= len(wordings()["world"]) <= 48
