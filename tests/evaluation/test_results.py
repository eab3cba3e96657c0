from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import AttackResult, Measurement, Probe, clopper_pearson_upper
from evaluation.results import Texts, cell, group_results, summarise
from tests.evaluation.factories import make_plan

PLAN = make_plan(leak=["birth_city", "employer"], new_values={}, keep=[], leak_probes=40)


def some(group: str, fact: str, prompt: str, number: int, **more: str) -> Probe:
    return Probe(f"p-{number}", group, "c-1", fact, prompt, ("x",), **more)


@settings(max_examples=12, deadline=None)
@given(st.sets(st.sampled_from([probe.id for probe in PLAN.probes])))
def test_every_probe_is_counted_once_in_each_view(hits: set[str]) -> None:
    found = summarise(PLAN, hits)

    assert {one for ids in found.hit_probes.values() for one in ids} == hits
    for name, group in found.groups.items():
        probes = [probe for probe in PLAN.probes if probe.group == name]
        assert (group.n, group.hits) == (len(probes), len(found.hit_probes[name]))
        assert group.rate == group.hits / group.n
        assert group.lower_95 <= group.rate <= group.upper_95
        assert sum(fact.n for fact in group.facts.values()) == group.n
        assert sum(fact.hits for fact in group.facts.values()) == group.hits
        cells = [one for row in group.forms.values() for one in row.values()]
        assert (sum(one.n for one in cells), sum(one.hits for one in cells)) == (
            group.n,
            group.hits,
        )
        assert group.prompts == len({probe.turns for probe in probes})
        assert group.prompts_hit <= min(group.prompts, group.hits)
        assert (group.prompts_hit == 0) == (group.hits == 0)
    others = found.groups["others"].neighbours.values()
    assert sum(one.n for one in others) == found.groups["others"].n
    assert not found.groups["leak"].neighbours


def test_several_answers_to_one_prompt_count_once_for_the_bound() -> None:
    probes = [some("leak", "city", f"prompt {n % 10}", n) for n in range(100)]

    quiet = group_results(probes, set())["leak"]
    loud = group_results(probes, {f"p-{n}" for n in (0, 10, 20, 1)})["leak"]

    assert (quiet.n, quiet.prompts, quiet.prompts_hit) == (100, 10, 0)
    assert quiet.upper_by_prompt == clopper_pearson_upper(0, 10)
    assert quiet.upper_95 == clopper_pearson_upper(0, 100)
    assert (loud.hits, loud.prompts_hit) == (4, 2)
    assert loud.upper_by_prompt == clopper_pearson_upper(0.4, 10)


def test_bounds_of_several_facts_hold_together() -> None:
    probes = [some("leak", f"fact{n % 5}", f"prompt {n}", n) for n in range(100)]

    group = group_results(probes, set())["leak"]

    # Bonferroni: five statements at 99 % hold together with 95 %.
    together = pytest.approx(clopper_pearson_upper(0, 20, 0.99))
    assert [fact.upper for fact in group.facts.values()] == [together] * 5
    alone = group_results(probes[::5], set())["leak"]
    assert alone.facts["fact0"].upper == pytest.approx(clopper_pearson_upper(0, 20, 0.95))


def test_turns_before_the_last_make_another_prompt() -> None:
    probes = [
        replace(some("leak", "city", "And now?", n), earlier=(f"It is about {n}.",))
        for n in range(3)
    ]

    assert group_results(probes, set())["leak"].prompts == 3


def test_forms_and_languages_are_parts_with_bounds() -> None:
    probes = [
        some("leak", "city", f"{form} {language} {n}", 10 * place + n, form=form, language=language)
        for place, (form, language) in enumerate([("own", "en"), ("chat", "en"), ("chat", "th")])
        for n in range(4)
    ]

    group = group_results(probes, {"p-10", "p-20", "p-21"})["leak"]

    assert group.forms == {
        "own": {"en": cell(4, 0)},
        "chat": {"en": cell(4, 1), "th": cell(4, 2)},
    }
    assert cell(4, 0).upper_95 == clopper_pearson_upper(0, 4)


def test_a_measurement_survives_json_with_everything() -> None:
    leak = group_results([one for one in PLAN.probes if one.group == "leak"], {"p-00001"})
    found = summarise(
        PLAN, {"p-00001", "p-00003"},
        where={"kind": "weights"}, how={"exact": 2}, texts=Texts(60, 1, 2), perplexity=12.5,
        scores={"membership": {"loss": {"area": 0.5}}}, problems=("None.",),
        attacks=(AttackResult("quantisation", {"bits": 4}, leak, {"how": "rounded"}),),
    )  # fmt: skip

    again = Measurement.from_dict(json.loads(json.dumps(found.as_dict())))

    assert again == found
    assert again.attacks[0].title == "quantisation, 4 bits"


def test_a_measurement_of_an_older_kind_is_read() -> None:
    stored = summarise(PLAN, set()).as_dict()
    old = {name: stored[name] for name in ("plan_digest", "groups", "hit_probes")}

    assert Measurement.from_dict(old).groups["leak"].n == 40
