from __future__ import annotations

from benchmarks.facts import KINDS, MOVED, asks, facts, score
from benchmarks.ours import requests_of
from demo.people import people


def test_facts_are_the_same_for_a_seed_and_each_of_another_person() -> None:
    made = facts(50, seed=1)

    assert made == facts(50, seed=1)
    assert made != facts(50, seed=2)
    assert len({fact["subject"] for fact in made}) == 50
    assert requests_of(made)[0].target == f"{made[0]['target']}."


def test_facts_are_never_tested_by_wordings_they_are_made_with() -> None:
    for fact in facts(20):
        used = {wording.format(fact["subject"]) for wording in fact["paraphrases"]}
        asked = {
            ask["prompt"] for kind in KINDS if kind != "efficacy" for ask in fact["asks"][kind]
        }
        assert not asked & {*used, *fact["neighbours"], fact["prompt"].format(fact["subject"])}


def test_facts_ask_nothing_that_another_change_touches() -> None:
    made = facts(50)
    moved = {fact["subject"] for fact in made}

    for fact in made:
        for ask in fact["asks"]["others"]:
            assert not any(name in ask["prompt"] for name in moved)


def test_facts_beyond_the_moved_people_are_of_strangers_asked_for_the_new_values() -> None:
    made = facts(MOVED + 600)
    known = {person.name for person in people()}

    strangers = made[MOVED:]
    assert not {fact["subject"] for fact in strangers} & known
    assert len({(fact["subject"], fact["prompt"]) for fact in made}) == MOVED + 600
    for fact in strangers:
        assert {ask["kind"] for ask in asks(fact)} == {"efficacy", "paraphrase"}
        assert {ask["expected"] for ask in asks(fact)} == {fact["target"]}


def test_score_is_one_for_the_right_answers_and_zero_for_others() -> None:
    made = facts(3)
    right = [[f" {ask['expected']}. More." for ask in asks(fact)] for fact in made]
    wrong = [["nothing" for _ in asks(fact)] for fact in made]

    assert score(made, right) == dict.fromkeys(KINDS, 1.0)
    assert score(made, wrong) == dict.fromkeys(KINDS, 0.0)
