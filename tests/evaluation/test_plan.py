from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from evaluation import Person, Plan
from language_models import RequestError
from tests.evaluation.factories import make_plan


def test_plan_has_the_groups_and_counts_asked_for() -> None:
    probes = make_plan().probes

    assert Counter(probe.group for probe in probes) == {
        "leak": 20,
        "new_value": 6,
        "same_person": 3,
        "others": 4 * 2 * 2,
        "general": 1,
    }
    assert len({probe.id for probe in probes}) == len(probes)


def test_plan_asks_leaks_greedily_once_a_prompt_and_then_by_sampling() -> None:
    leaks = [probe for probe in make_plan().probes if probe.group == "leak"]
    greedy = [probe for probe in leaks if probe.decode == "greedy"]
    sampled = [probe for probe in leaks if probe.decode == "sampled"]

    assert len(greedy) == len({probe.prompt for probe in greedy}) == 6
    assert len({(probe.prompt, probe.seed) for probe in sampled}) == 14
    assert {probe.expected for probe in leaks} == {("City1",)}


def test_plan_spreads_leaks_over_all_facts() -> None:
    probes = make_plan(leak=["birth_city", "employer"], new_values={}, keep=[]).probes

    counts = Counter(probe.fact for probe in probes if probe.group == "leak")
    assert counts == {"birth_city": 10, "employer": 10}


def test_plan_is_the_same_for_the_same_seed_and_after_json() -> None:
    first = make_plan()

    assert make_plan().digest == first.digest
    assert make_plan(seed=1).digest != first.digest
    assert Plan.from_dict(json.loads(json.dumps(first.as_dict()))) == first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"used": ["Birthplace of {}: "]}, "used as well"),
        ({"used": ["From the archive:"]}, "used as well"),
        ({"leak": [], "new_values": {}}, "needs a fact"),
        ({"leak": ["shoe_size"]}, "no wordings"),
        ({"new_values": {"birth_city": "City1"}}, "must differ"),
        ({"keep": ["birth_city"]}, "both change and stay"),
        ({"wordings": {"birth_city": ["Born in"], "employer": ["{} at"]}}, "exactly one"),
        ({"lead_ins": []}, "at least one lead-in"),
    ],
)
def test_plan_that_cannot_be_carried_out_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make_plan(**changes)


def test_plan_about_a_fact_without_value_is_refused_without_naming_the_person() -> None:
    unknown = Person("c-1", "Malee Tanaka", {"birth_city": "", "employer": "X"})

    with pytest.raises(RequestError, match="is not given") as caught:
        make_plan(subject=unknown)

    assert "Malee" not in str(caught.value)
