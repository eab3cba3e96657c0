"""The evaluation of one person: the plan, the clock and the tables; values that are asked."""

from __future__ import annotations

import time

from demo.people import RELATIONS
from evaluation import plan
from proofs.known_value import asked_of, others_values
from proofs.known_value import table as agreement_table
from proofs.one_person import EDITED, NEUTRAL, Clock, design, everyone, shown, times


def test_the_plan_asks_in_four_languages_beside_controls() -> None:
    subject = everyone()[5]
    frozen = plan(design(subject))
    groups = [one.group for one in frozen.probes]
    leak = [one for one in frozen.probes if one.group == "leak"]
    indirect = [one for one in frozen.probes if one.group == "indirect"]
    assert (groups.count("leak"), groups.count("control")) == (300, 100)
    assert {one.language for one in indirect} == {"en", "th", "ja", "lo"}
    assert {one.fact for one in leak} == set(RELATIONS)
    assert len({one.turns for one in leak}) == 300
    assert [one.name for one in frozen.attacks].count("relearning") == 0
    assert len(frozen.attacks) == 5


def test_a_plan_for_one_edited_fact_keeps_the_others() -> None:
    frozen = plan(design(everyone()[5], NEUTRAL))
    facts = {one.group: {each.fact for each in frozen.probes if each.group == one.group}
             for one in frozen.probes}  # fmt: skip
    assert facts["leak"] == facts["new_value"] == facts["reliability"] == {EDITED}
    assert facts["same_person"] == set(RELATIONS) - {EDITED}


def test_the_clock_adds_up_parts_of_one_name() -> None:
    clock = Clock()
    clock.told("measure", 0, 2)
    time.sleep(0.01)
    clock.told("measure", 1, 2)
    clock.told("prefix", 0, 1)
    clock.told("measure", 0, 1)
    clock.stop()
    with clock.part("change"):
        time.sleep(0.001)
    assert list(clock.seconds) == ["measure", "prefix", "change"]
    assert clock.seconds["measure"][0] >= 0.01 > clock.seconds["prefix"][0]


def test_tables_are_told_with_what_was_not_run() -> None:
    sides = {f"{side}{end}": 0.5 for side in ("before", "after") for end in ("", "_low", "_high")}
    row = {"label": "All probes", "probes": 8, **sides}
    attack = {"key": "prefix", "probes": 4, "before": None, "after": 0.25, "after_high": 0.5,
              "chance": 0.0, "others": None}  # fmt: skip
    text = shown({"leak": [row], "neighbours": [], "attacks": [attack]})
    assert "| All probes | 8 | 50.0% (50.0% to 50.0%) | 50.0% (50.0% to 50.0%) |" in text
    assert "| prefix | 4 | - | 25.0% | 50.0% | 0.0% | - |" in text
    spent = {"seconds": 2.0, "cpu_seconds": 3.0, "load_average": 1.5, "parts": {"measure": [1, 2]}}
    other = {**spent, "parts": {"prefix": (0.5, 0.5)}}
    lines = times({"before": spent, "npo": other}).splitlines()
    assert lines[2] == "| measure | 1.0 s (2.0) | 0.0 s (0.0) |"
    assert lines[-2:] == ["| all | 2.0 s (3.0) | 2.0 s (3.0) |", "| load before | 1.5 | 1.5 |"]


def test_former_and_new_values_are_asked_of_the_person_and_own_ones_of_others() -> None:
    subject = everyone()[3]
    new = others_values(subject)
    asked = asked_of(subject, new)
    own = [value for prompt, value in asked if subject.name in prompt]
    assert set(own) == {*subject.facts.values(), *new.values()}
    assert not set(subject.facts.values()) & set(new.values())
    assert len(asked) > 2 * len(own) - len(asked)
    assert len(asked_of(subject, {})) < len(asked)
    sums = {"npo": {"asked": 2000, "same": 1999, "yes": 1000, "written": 3}}
    assert agreement_table(sums).splitlines()[2] == "| NPO | 2,000 | 50.0% | 3 | 99.950% |"
