from __future__ import annotations

from dataclasses import replace

import pytest

from evaluation import Attack, Measurement, Memory, compare, measure
from language_models import RequestError, generate
from tests.evaluation.factories import make_plan
from tests.language_models.factories import tiny_model


def test_measure_counts_the_values_that_the_model_writes() -> None:
    lm = tiny_model()
    plan = make_plan(max_new_tokens=6)
    greedy = [probe for probe in plan.probes if probe.decode == "greedy"]
    written = generate(lm, [probe.prompt for probe in greedy], max_new_tokens=6)
    said = {
        probe.id: text
        for probe, text in zip(greedy, written, strict=True)
        if any(letter.isalnum() for letter in text)
    }
    # Every second greedy probe expects what the model writes, the others what it does not.
    expecting = [
        replace(probe, expected=(said[probe.id] if n % 2 else "never written",))
        if probe.id in said
        else replace(probe, expected=("never written",))
        for n, probe in enumerate(plan.probes)
    ]

    result = measure(lm, replace(plan, probes=tuple(expecting)))

    wanted = {p.id for n, p in enumerate(plan.probes) if n % 2 and p.id in said}
    assert {probe_id for ids in result.hit_probes.values() for probe_id in ids} == wanted
    assert sum(group.hits for group in result.groups.values()) == len(wanted)
    assert sum(group.n for group in result.groups.values()) == len(plan.probes)


def test_measure_is_repeatable_and_survives_json() -> None:
    lm, plan = tiny_model(), make_plan()

    first = measure(lm, plan)

    assert measure(lm, plan) == first
    assert Measurement.from_dict(first.as_dict()) == first
    assert first.plan_digest == plan.digest


def test_measure_keeps_no_text_of_the_person() -> None:
    result = str(measure(tiny_model(), make_plan()).as_dict())

    assert "Person1" not in result
    assert "City1" not in result


def test_measure_reports_progress_to_the_end() -> None:
    steps: list[tuple[str, int, int]] = []

    measure(tiny_model(), make_plan(), lambda *step: steps.append(step))

    assert {stage for stage, _, _ in steps} == {"measure"}
    assert steps[-1][1] == steps[-1][2]


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (Attack("magic"), "Unknown attack 'magic'"),
        (Attack("prefix", {"bits": 4}), "no setting bits"),
        (Attack("quantisation", {"library": "torchao"}), "torchao is not installed"),
    ],
)
def test_an_attack_that_cannot_be_is_refused_before_anything_is_asked(
    attack: Attack, words: str
) -> None:
    plan = replace(make_plan(), attacks=(Attack("prefix"), attack))
    steps: list[tuple[str, int, int]] = []

    with pytest.raises(RequestError, match=words):
        measure(tiny_model(), plan, lambda *step: steps.append(step))

    assert steps == []
    assert measure(tiny_model(), plan, attacks=False).groups


def test_an_attack_that_fails_leaves_what_was_asked_without_it() -> None:
    attacks = (Attack("quantisation", {"bits": 3}), Attack("quantisation", {"bits": 4}))

    found = measure(tiny_model(), replace(make_plan(), attacks=attacks))

    assert found.groups["leak"].n == 20
    assert [one.details.get("failed", "")[:20] for one in found.attacks] == [
        "Quantise to 4 or 8 b", "",
    ]  # fmt: skip
    verdict = compare(found, found)
    assert verdict.outcome != "passed"
    assert any("Under the attack quantisation, 3 bits" in one for one in verdict.reasons)


def test_texts_with_nothing_to_score_are_left_out_and_counted() -> None:
    memory = Memory(own=("", "Person1 Name lives"), strangers=("", "Person2 Name lives"))
    plan = replace(make_plan(), held_out=("", "The river of Marn"), memory=memory)

    found = measure(tiny_model(), plan)

    assert found.perplexity == measure(
        tiny_model(), replace(plan, held_out=("The river of Marn",))
    ).perplexity  # fmt: skip
    assert found.scores["too_short"] == {"held_out": 1, "own": 1}
    assert found.scores["texts"]["own"]["count"] == 1
    nothing = measure(tiny_model(), replace(plan, held_out=("",), memory=Memory(own=("",))))
    assert (nothing.perplexity, nothing.scores) == (
        None, {"too_short": {"held_out": 1, "own": 1}},
    )  # fmt: skip
