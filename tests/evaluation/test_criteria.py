"""Criteria by part: one fact or form that leaks must not hide behind those that do not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from evaluation import Probe, compare
from evaluation.plan import Plan
from evaluation.results import summarise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evaluation import Measurement

FACTS = [f"fact_{number}" for number in range(7)]
EACH, STRANGERS = 46, 14


def planned(*, twins: bool = False) -> Plan:
    """Seven facts, each asked for in 46 prompts, in 16 of other forms, and of strangers."""
    groups = {"leak": EACH, "indirect": 16}
    if twins:
        groups |= {"control": STRANGERS, "indirect_control": STRANGERS}
    probes = [
        Probe(f"{group}-{fact}-{n}", group, "c", fact, f"{group} {fact} {n}", ("x",),
              form=("statement" if group in ("leak", "control") else f"form_{n % 8}"))
        for group, count in groups.items()
        for fact in FACTS
        for n in range(count)
    ]  # fmt: skip
    return Plan(tuple(probes), 8, 1.0, 0)


def found(plan: Plan, hits: Mapping[tuple[str, str], int]) -> Measurement:
    """A measurement with so many hits of each (group, fact or form)."""
    chosen = []
    for (group, part), count in hits.items():
        ids = [one.id for one in plan.probes if one.group == group and part in (one.fact, one.form)]
        # Of a form, spread over the facts.
        chosen += ids[:count] if part in FACTS else ids[::3][:count]
    return summarise(plan, chosen)


def broken(plan: Plan, before: Measurement, after: Measurement) -> list[tuple[str, str]]:
    verdict = compare(before, after)
    return [(one.name, one.group) for one in verdict.criteria if not one.held]


def test_a_fact_that_leaks_does_not_hide_behind_six_that_do_not() -> None:
    plan = planned()
    after = found(plan, {("leak", "fact_3"): 6})

    verdict = compare(found(plan, {}), after)

    assert after.groups["leak"].rate < 0.02
    assert verdict.outcome == "failed"
    assert len(verdict.reasons) == 1
    assert verdict.reasons[0].startswith("Not held. How often the fact that comes out most surely")
    assert "(fact 3)" in verdict.reasons[0]


@pytest.mark.parametrize("hits", [{("leak", "fact_3"): 1}, {("leak", fact): 1 for fact in FACTS}])
def test_single_hits_are_the_luck_of_the_draw(hits: dict[tuple[str, str], int]) -> None:
    plan = planned()

    assert ("leak_by_fact", "fact_3") not in broken(plan, found(plan, {}), found(plan, hits))


def test_draws_of_one_prompt_are_no_proof_of_a_fact() -> None:
    plan = planned()
    again = [replace(one, prompt=one.prompt[:-1] + "0") if one.fact == "fact_3" else one
             for one in plan.probes]  # fmt: skip
    same = replace(plan, probes=tuple(again))

    assert broken(same, found(same, {}), found(same, {("leak", "fact_3"): 6})) == []


def test_what_strangers_are_told_as_well_is_chance_of_that_fact() -> None:
    plan = planned(twins=True)
    guessed = {("control", "fact_3"): 3}
    after = found(plan, {("leak", "fact_3"): 6, **guessed})

    assert broken(plan, found(plan, guessed), after) == []
    # Told to strangers only since the change: no chance.
    assert broken(plan, found(plan, {}), after) == [("leak_by_fact", "fact_3")]


@pytest.mark.parametrize(
    ("part", "count", "names"),
    [
        ("fact_3", 5, [("indirect_by_fact", "fact_3")]),
        ("form_2", 4, [("indirect_by_form", "form_2")]),
        ("form_2", 2, []),
    ],
)
def test_other_forms_are_judged_by_fact_and_by_form(
    part: str, count: int, names: list[tuple[str, str]]
) -> None:
    plan = planned()

    assert broken(plan, found(plan, {}), found(plan, {("indirect", part): count})) == names


def test_one_fact_is_the_whole() -> None:
    plan = planned()
    one = replace(plan, probes=tuple(one for one in plan.probes if one.fact == "fact_3"))

    names = [row.name for row in compare(found(one, {}), found(one, {})).criteria]

    assert names == ["leak_rate", "leak_probes", "leak_prompts", "indirect_rate",
                     "indirect_by_form"]  # fmt: skip


def test_a_fact_is_not_excused_by_what_is_guessed_of_another() -> None:
    facts = {"gender": (150, 50), "phone": (150, 50)}
    probes = [
        Probe(f"{group}-{fact}-{n}", group, "c", fact, f"{group} {fact} {n}", ("x",))
        for fact, counts in facts.items()
        for group, count in zip(("leak", "control"), counts, strict=True)
        for n in range(count)
    ]
    plan = Plan(tuple(probes), 8, 1.0, 0)
    guessed = [f"control-gender-{n}" for n in range(25)]
    before = summarise(plan, [*guessed, *(f"leak-gender-{n}" for n in range(75))])
    leaked = [f"leak-phone-{n}" for n in range(40)]
    after = summarise(plan, [*guessed, *leaked, *(f"leak-gender-{n}" for n in range(20))])

    assert broken(plan, before, after) == [("leak_by_fact", "phone")]
