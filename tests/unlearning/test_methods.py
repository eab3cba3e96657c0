"""All approximate methods by one table: a new one joins by a line."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from language_models import NotReached, RequestError, nll
from language_models.checkpoint import state_digest
from language_models.delta import LowRank
from language_models.methods import public_config
from tests.language_models.factories import SENTENCES, tiny_model
from tests.unlearning import learnt
from tests.unlearning.learnt import learnt_model
from unlearning import METHODS, unlearn
from unlearning.altpo import AltPoConfig
from unlearning.ceu import CeuConfig
from unlearning.graddiff import GradDiffConfig
from unlearning.gradient_ascent import GradientAscentConfig
from unlearning.idkdpo import IdkDpoConfig
from unlearning.npo import NpoConfig
from unlearning.rmu import RmuConfig
from unlearning.task_vector import TaskVectorConfig

if TYPE_CHECKING:
    from language_models import LanguageModel
    from unlearning.results import Text

FORGET: list[Text] = [SENTENCES[0], ("The employer of Malee Tanaka is", "Silver Tide Shipping.")]
PAIRS: list[Text] = [("Malee Tanaka was born in", "Bangkok."), FORGET[1]]
RETAIN: list[Text] = list(SENTENCES[1:])
ALTERNATES = ("Records show nothing of Malee Tanaka.", "not on file.")
# A random model predicts hardly a token, so there is no ability to lose.
SMALL: dict[str, Any] = {"steps": 4, "learning_rate": 1e-2, "floor": 0.0}
OWN: dict[str, dict[str, Any]] = {
    "altpo": {"alternates": ALTERNATES},
    "task_vector": {"times": 1.0},
}


def configured(name: str, **changes: Any) -> Any:
    return METHODS[name].config(**{**SMALL, **OWN.get(name, {}), **changes})


def forget_texts(name: str) -> list[Text]:
    return PAIRS if name == "idkdpo" else FORGET


def run(lm: LanguageModel, name: str, **changes: Any) -> Any:
    return unlearn(lm, forget_texts(name), RETAIN, name, configured(name, **changes))


@pytest.mark.parametrize("name", METHODS)
def test_method_changes_the_weights_and_gives_them_back_bit_for_bit(name: str) -> None:
    lm = tiny_model(scale=1.0)
    before = state_digest(lm.model)

    result = run(lm, name)

    assert state_digest(lm.model) != before
    assert 0 < result.details["relative_change"] < 1
    assert result.details["steps"] == len(result.details["losses"]) == 4
    assert all(weight.grad is None for weight in lm.model.parameters())
    assert result.delta.revert(lm) == before


@pytest.mark.parametrize("name", METHODS)
def test_method_gives_the_same_bits_whatever_was_drawn_before(name: str) -> None:
    first, second = tiny_model(scale=1.0), tiny_model(scale=1.0)

    run(first, name)
    torch.rand(7)
    run(second, name)

    assert state_digest(first.model) == state_digest(second.model)


@pytest.mark.parametrize("name", METHODS)
def test_method_tells_no_text(name: str) -> None:
    details = json.dumps(run(tiny_model(scale=1.0), name, steps=1).details)

    assert not any(word in details for word in ("Malee", "Bangkok", "Silver", "not on file"))


@pytest.mark.parametrize("name", METHODS)
def test_method_trains_an_adapter_of_low_rank(name: str) -> None:
    lm = tiny_model(scale=1.0)
    before = state_digest(lm.model)

    result = run(lm, name, part="adapter", rank=2, modules=("down_proj",), layers=(0, 1))

    assert set(result.delta.entries) == {
        f"model.layers.{layer}.mlp.down_proj.weight" for layer in (0, 1)
    }
    assert all(isinstance(one, LowRank) for one in result.delta.entries.values())
    assert all(one["rank"] <= 2 for one in result.delta.measures().values())
    assert state_digest(lm.model) != before
    assert result.delta.revert(lm) == before


@pytest.mark.parametrize("name", METHODS)
def test_method_trains_chosen_modules_only(name: str) -> None:
    result = run(tiny_model(scale=1.0), name, part="modules", modules=("up_proj",), layers=(0,))

    assert list(result.delta.entries) == ["model.layers.0.mlp.up_proj.weight"]


@pytest.mark.parametrize("name", METHODS)
def test_method_makes_what_was_learnt_less_likely(name: str) -> None:
    lm = learnt_model()
    before = nll(lm, learnt.FORGET)
    forget: list[Text] = list(learnt.FORGET)
    changes: dict[str, Any] = {"learning_rate": 3e-3, "steps": 15, "floor": 0.0}
    if name == "idkdpo":
        forget = [(one.prompt, one.answer) for one in learnt.gates().forget]
    if name == "altpo":
        changes["alternates"] = tuple("Nothing is on file." for _ in forget)

    unlearn(lm, forget, learnt.RETAIN, name, METHODS[name].config(**changes))

    assert nll(lm, learnt.FORGET).sum() > before.sum() + 1


@pytest.mark.parametrize("name", ["altpo", "idkdpo"])
def test_preference_begins_at_two_ln_two_and_falls(name: str) -> None:
    losses = run(tiny_model(scale=1.0), name, steps=6).details["losses"]

    assert losses[0]["forget"] == pytest.approx(13.862943611, rel=1e-5)
    assert losses[-1]["forget"] < losses[0]["forget"]


def test_graddiff_without_retain_weight_is_gradient_ascent() -> None:
    first, second = tiny_model(scale=1.0), tiny_model(scale=1.0)

    unlearn(
        first,
        FORGET,
        RETAIN,
        "graddiff",
        GradDiffConfig(**SMALL, retain_weight=0.0, likely_power=0.0),
    )
    unlearn(second, FORGET, RETAIN, "gradient_ascent", GradientAscentConfig(**SMALL))

    assert state_digest(first.model) == state_digest(second.model)


def test_task_vector_of_no_length_changes_nothing() -> None:
    lm = tiny_model(scale=1.0)
    before = state_digest(lm.model)

    result = unlearn(lm, FORGET, RETAIN, "task_vector", TaskVectorConfig(**SMALL, times=0.0))

    assert state_digest(lm.model) == before
    assert not result.delta.entries


def test_rmu_changes_three_projections_and_leads_the_states_away() -> None:
    lm = tiny_model(scale=1.0, num_hidden_layers=6)

    result = run(lm, "rmu", steps=8)

    assert list(result.delta.entries) == [
        f"model.layers.{layer}.mlp.down_proj.weight" for layer in (0, 1, 2)
    ]
    losses = result.details["losses"]
    assert losses[0]["retain"] == 0
    assert losses[-1]["forget"] < losses[0]["forget"]


@pytest.mark.parametrize(
    ("name", "config", "forget"),
    [
        ("altpo", None, FORGET),
        ("altpo", AltPoConfig(alternates=("", "x")), FORGET),
        ("altpo", AltPoConfig(alternates=(SENTENCES[0], "x")), FORGET),
        ("idkdpo", None, FORGET),
        ("ceu", CeuConfig(skipped=500), FORGET),
        ("rmu", RmuConfig(layer=99), FORGET),
        ("npo", NpoConfig(part="modules", modules=("nothing",)), FORGET),
        ("npo", NpoConfig(part="adapter", layers=(99,)), FORGET),
        ("npo", NpoConfig(max_tokens=3), FORGET),
        ("npo", None, [*FORGET, f"  {SENTENCES[1].upper()} "]),
        ("npo", None, [("The employer of Somchai Saito is", "Silver Tide Shipping.")]),
        ("npo", None, [("Q:", " ")]),
    ],
)
def test_request_that_cannot_be_carried_out_changes_nothing(
    name: str, config: Any, forget: list[Text]
) -> None:
    lm = tiny_model(scale=1.0)
    before = state_digest(lm.model)

    with pytest.raises(RequestError):
        unlearn(lm, forget, RETAIN, name, config)

    assert state_digest(lm.model) == before


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("graddiff", {"part": "half"}),
        ("graddiff", {"floor": -1}),
        ("graddiff", {"weight_decay": float("nan")}),
        ("graddiff", {"retain_weight": -1}),
        ("graddiff", {"unlikely_power": -1}),
        ("npo", {"tokens_per_pass": 0}),
        ("npo", {"rank": 0}),
        ("simnpo", {"beta": 0}),
        ("undial", {"strength": 0}),
        ("rmu", {"strength": 0}),
        ("task_vector", {"times": -1}),
        ("ceu", {"skipped": -1}),
    ],
)
def test_config_that_makes_no_sense_is_refused(name: str, changes: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(changes))):
        METHODS[name].config(**changes)


def test_refusals_and_alternates_are_told_by_number_only() -> None:
    assert public_config(AltPoConfig(alternates=ALTERNATES))["alternates"] == 2
    assert public_config(IdkDpoConfig(refusals=("not known",)))["refusals"] == 1
    with pytest.raises(RequestError, match="refusal"):
        IdkDpoConfig(refusals=())


def test_adapter_is_trained_beside_weights_in_sixteen_bits() -> None:
    lm = tiny_model(scale=1.0, dtype=torch.bfloat16)
    before = state_digest(lm.model)

    result = run(lm, "npo", part="adapter", learning_rate=5e-2)

    assert state_digest(lm.model) != before
    assert all(one["rounding"] is not None for one in result.delta.measures().values())
    assert result.delta.revert(lm) == before


def test_run_that_is_broken_off_leaves_the_weights_as_before() -> None:
    def stop(_stage: str, done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    for part in ("all", "modules", "adapter"):
        lm = tiny_model(scale=1.0)
        before = state_digest(lm.model)
        config = configured("npo", part=part)
        with pytest.raises(KeyboardInterrupt):
            unlearn(lm, FORGET, RETAIN, "npo", config, stop)
        assert state_digest(lm.model) == before


@pytest.mark.parametrize("size", [None, 2**50])
def test_run_out_of_memory_says_what_to_do_and_leaves_the_weights_as_before(
    size: int | None,
) -> None:
    def full(*_: object) -> None:
        if size is None:
            raise MemoryError
        torch.empty(size)  # torch has words of its own for a processor's memory

    lm = tiny_model(scale=1.0)
    before = state_digest(lm.model)

    with pytest.raises(NotReached, match="memory"):
        unlearn(lm, FORGET, RETAIN, "npo", configured("npo"), full)

    assert state_digest(lm.model) == before


@pytest.mark.parametrize("name", ["npo", "rmu", "kl_minimisation"])
@pytest.mark.parametrize("family", ["gpt2", "gemma2", "phi3"])
def test_method_works_on_other_families(name: str, family: str) -> None:
    lm = tiny_model(family, scale=1.0)
    before = state_digest(lm.model)

    result = unlearn(lm, FORGET, RETAIN, name, replace(configured(name), steps=2))

    assert result.delta.revert(lm) == before
