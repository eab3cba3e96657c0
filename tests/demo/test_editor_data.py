"""The facts for training an editor hold none of the people that show what it learned."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from demo.corpus import wordings
from demo.editor_data import editor_data, trained_people, unseen_people
from demo.people import RELATIONS, people
from editing.learned.data import read_training_data

if TYPE_CHECKING:
    from pathlib import Path


def test_trained_and_unseen_people_are_all_people_once() -> None:
    assert trained_people() + unseen_people() == people()


def test_facts_are_the_same_each_time_and_are_read_by_the_training(tmp_path: Path) -> None:
    file = tmp_path / "facts.json"
    file.write_text(json.dumps(editor_data()), encoding="utf-8")

    assert len(read_training_data(file).examples) == len(editor_data())


def test_facts_hold_no_unseen_person_and_no_verify_wording() -> None:
    text = json.dumps(editor_data(), ensure_ascii=False)

    assert not [person.id for person in unseen_people() if person.name in text]
    for fact in editor_data():
        for relation in RELATIONS:
            for wording in wordings()[relation]["verify"]:
                prompts = [fact["prompt"], *fact["paraphrases"]]
                assert not [one for one in prompts if one.endswith(wording)]


def test_no_fact_asks_for_the_value_that_is_the_persons_own() -> None:
    own = {person.name: set(person.facts.values()) for person in trained_people()}

    for fact in editor_data():
        assert fact["target"].removesuffix(".") not in own[fact["subject"]]
