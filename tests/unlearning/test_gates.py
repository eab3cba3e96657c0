"""Gates and the floor, on a tiny model that has learnt real facts: a real leak, a real collapse."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from language_models import NotReached, RequestError, generate
from language_models.checkpoint import state_digest
from tests.language_models.factories import tiny_model
from tests.unlearning.learnt import FORGET, RETAIN, gates, learnt_model
from unlearning import METHODS, unlearn
from unlearning.gates import Asked, Gates, GatesNotHeld, Question
from unlearning.npo import NpoConfig
from unlearning.weights import training

FAST: dict[str, Any] = {"learning_rate": 3e-3, "steps": 40}
COLLAPSING = ("gradient_ascent", "task_vector")
HOLDING = ("npo", "simnpo", "graddiff", "kl_minimisation", "undial", "ceu")


def test_share_is_what_greedy_generation_begins_with() -> None:
    lm = learnt_model()
    asked = [*gates().forget, *gates().retain, Question("Anna Sato was born in", "Kyoto")]

    texts = generate(lm, [one.prompt for one in asked], max_new_tokens=16)

    written = [text.strip().startswith(one.answer) for text, one in zip(texts, asked, strict=True)]
    greedy, drawn = Asked(lm, asked).shares()
    assert greedy == sum(written) / len(asked)
    assert written[-1] is False
    assert 0.5 < drawn < 1


def test_chance_of_a_drawn_answer_is_what_many_draws_give() -> None:
    lm = learnt_model()
    unlearn(lm, FORGET, RETAIN, "undial", METHODS["undial"].config(learning_rate=1e-3, steps=5))
    question = gates().forget[0]

    texts = generate(lm, [question.prompt] * 400, max_new_tokens=8, temperature=1.0, seed=1)

    drawn = sum(text.strip().startswith(question.answer) for text in texts) / 400
    assert Asked(lm, [question]).shares()[1] == pytest.approx(drawn, abs=0.1)


@pytest.mark.parametrize("name", HOLDING)
def test_run_stops_as_soon_as_its_gates_hold(name: str) -> None:
    lm = learnt_model()
    before = state_digest(lm.model)
    wanted = gates(margin=1.0)

    result = unlearn(lm, FORGET, RETAIN, name, METHODS[name].config(**FAST), gates=wanted)

    looks = result.details["looks"]
    assert looks[-1]["held"]
    assert not any(look["held"] for look in looks[:-1])
    assert looks[-1]["forget"] <= 0.01
    assert looks[-1]["retain"] >= result.details["before"]["retain"] - 0.02
    assert result.details["steps"] == looks[-1]["step"] < FAST["steps"]
    assert "Malee" not in json.dumps(result.details)
    assert result.delta.revert(lm) == before


@pytest.mark.parametrize("name", COLLAPSING)
def test_collapse_is_stopped_and_the_weights_are_as_before(name: str) -> None:
    lm = learnt_model()
    before = state_digest(lm.model)

    with pytest.raises(NotReached, match="general ability had fallen") as caught:
        unlearn(lm, FORGET, RETAIN, name, METHODS[name].config(**FAST))

    assert not isinstance(caught.value, GatesNotHeld)
    assert state_digest(lm.model) == before


@pytest.mark.parametrize("part", ["all", "adapter"])
def test_gates_that_do_not_hold_bring_the_weights_back(part: str) -> None:
    lm = learnt_model()
    before = state_digest(lm.model)
    config = NpoConfig(steps=2, learning_rate=1e-6, part=part)

    with pytest.raises(GatesNotHeld, match="weights are as before") as caught:
        unlearn(lm, FORGET, RETAIN, "npo", config, gates=gates())

    assert [look["step"] for look in caught.value.looks] == [2]
    assert caught.value.looks[0]["forget"] == 1.0
    assert caught.value.looks[0]["retain"] is None
    assert state_digest(lm.model) == before


def test_adapter_is_looked_at_again_when_it_is_written() -> None:
    lm = learnt_model()
    config = NpoConfig(**{**FAST, "learning_rate": 1e-2}, part="adapter")

    looks = unlearn(lm, FORGET, RETAIN, "npo", config, gates=gates()).details["looks"]

    assert looks[-1]["held"]
    assert looks[-1]["step"] == looks[-2]["step"]


@pytest.mark.parametrize("part", ["all", "modules", "adapter"])
def test_share_of_a_change_acts_for_a_while(part: str) -> None:
    lm = learnt_model()
    ids = torch.arange(3, 40)[None]
    config = NpoConfig(part=part)

    with training(lm, config) as trained, torch.no_grad():
        for parameter in trained.parameters:
            parameter.add_(torch.randn(parameter.shape, generator=torch.manual_seed(1)) / 10)
        whole = lm.model(ids).logits
        with trained.scaled(1.0):
            assert torch.equal(lm.model(ids).logits, whole)
        with trained.scaled(0.5):
            half = lm.model(ids).logits
        assert torch.equal(lm.model(ids).logits, whole)
        trained.keep(0.5)
        assert torch.equal(lm.model(ids).logits, half)
        with trained.as_before():
            before = lm.model(ids).logits
        trained.keep(0.0)
        assert torch.equal(lm.model(ids).logits, before)
    assert not torch.allclose(half, whole)


@pytest.mark.parametrize("part", ["all", "adapter"])
def test_least_share_that_holds_is_written(part: str) -> None:
    # Steps as large as these overshoot: less than the whole does it.
    config = NpoConfig(**{**FAST, "learning_rate": 1e-2}, part=part, check_every=20)
    limits = {"retain_drop": 0.9, "general_drop": 0.9}
    found = {}
    for margin in (1.0, 1.5):
        lm = learnt_model()
        found[margin] = unlearn(
            lm, FORGET, RETAIN, "npo", config, gates=gates(margin=margin, **limits)
        ).details
        assert max(Asked(lm, gates().forget).shares()) == found[margin]["looks"][-1]["forget"]

    least, wider = found[1.0], found[1.5]
    assert least["steps"] == wider["steps"]
    assert least["share"] <= 0.67
    assert wider["share"] == pytest.approx(1.5 * least["share"], abs=0.15)
    assert wider["relative_change"] == pytest.approx(
        least["relative_change"] * wider["share"] / least["share"], rel=0.3
    )


def test_run_that_ends_without_its_margin_may_write_the_whole() -> None:
    # UNDIAL leaves a true token a share of its former chance, however long it is trained.
    lm = learnt_model()
    config = METHODS["undial"].config(**FAST)

    details = unlearn(lm, FORGET, RETAIN, "undial", config, gates=gates(margin=20.0)).details

    assert details["steps"] == FAST["steps"]
    assert details["share"] == 1


def test_run_without_gates_is_run_to_its_end() -> None:
    texts = ["Malee Tanaka was born in Bangkok.", "Anna Sato was born in Kyoto."]
    config = NpoConfig(steps=7, check_every=2, floor=0.0)

    details = unlearn(tiny_model(), texts[:1], texts[1:], "npo", config).details

    assert details["steps"] == 7
    assert [look["step"] for look in details["looks"]] == [2, 4, 6, 7]
    assert not any(look["held"] for look in details["looks"])


@pytest.mark.parametrize(
    "changes",
    [{"forget": ()}, {"retain": ()}, {"leak_max": 1.5}, {"retain_drop": -0.1}, {"margin": 0.9}],
)
def test_gates_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    question = (Question("Q:", "A"),)

    with pytest.raises(RequestError):
        Gates(**{"forget": question, "retain": question, **changes})
