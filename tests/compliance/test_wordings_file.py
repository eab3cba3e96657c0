"""Wordings are refused with the place and the reason when a model is registered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.conf import settings

from compliance.wordings_file import WordingsError, check
from tests.compliance.factories import WORDINGS

CITY = WORDINGS["birth_city"]


def test_the_shipped_wordings_and_those_of_the_tests_are_fine() -> None:
    check(json.loads((settings.BASE_DIR / "demo/wordings.json").read_text()))
    check(WORDINGS)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lead_ins": None}, "lead_ins needs a list of texts under “change”"),
        ({"lead_ins": {"change": [""], "verify": []}}, "under “verify”"),
        ({"world": {}}, "world needs a list"),
        ({"world": [{"verify": ["The river is the"]}]}, "Entry 1 of world needs"),
        ({"world": [{"verify": [], "answer": "Selu"}]}, "Entry 1 of world needs"),
        ({"birth_city": []}, "birth_city needs a “label”"),
        ({"birth_city": {**CITY, "neutral": " "}}, "a “neutral” value"),
        ({"birth_city": {**CITY, "verify": []}}, "birth_city needs a list of prompts under “ver"),
        ({"birth_city": {**CITY, "change": [3]}}, "birth_city needs a list of prompts under “cha"),
        ({"birth_city": {**CITY, "change": ["Born in"]}}, "Prompt 1 of birth_city under “change”"),
        ({"birth_city": {**CITY, "verify": ["{} or {}"]}}, "Prompt 1 of birth_city under “verify”"),
        ({"birth_city": {**CITY, "verify": ["{} in {x}"]}}, "no other brace"),
        ({"birth_city": {**CITY, "verify": CITY["change"]}}, "keep one"),
    ],
)
def test_what_is_missing_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(WordingsError, match=said):
        check({**WORDINGS, **changes})


@pytest.mark.parametrize("wordings", [[], {"lead_ins": WORDINGS["lead_ins"], "world": []}])
def test_wordings_without_a_fact_are_refused(wordings: Any) -> None:
    with pytest.raises(WordingsError, match=r"one JSON object|no kind of fact"):
        check(wordings)
