"""How much of a change is written, and the neighbours by which it is decided."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from editing import METHODS, edit
from editing.bound import BoundConfig, Share, share_to_write
from editing.finetune import FinetuneConfig
from editing.requests import EditRequest
from editing.training_rows import drawn_neighbours, held_and_checked
from editing.ultraedit import UltraEditConfig
from language_models import NotReached, RequestError
from language_models.generation import end_tokens
from tests.editing.gradient_cases import OTHER, REQUEST, endless, model

PROMPTS = tuple(f"Anna {number} was born in" for number in range(200))


def test_a_margin_more_than_the_least_share_is_written() -> None:
    share = share_to_write(BoundConfig(margin=1.2), lambda part: float(part >= 0.5), None)

    assert share.written == pytest.approx(0.6)
    assert share.borne


def test_the_whole_is_written_without_margin_and_when_all_of_it_is_needed() -> None:
    assert share_to_write(BoundConfig(margin=0.0), lambda _part: 1.0, None).written == 1.0
    assert share_to_write(BoundConfig(), lambda part: part, None).written == 1.0


def test_neighbours_bound_the_share_whatever_the_targets_need() -> None:
    def stayed(part: float) -> float:
        return 0.98 if part <= 0.5 else 0.97

    share = share_to_write(BoundConfig(neighbours_lost=0.02), lambda part: part, stayed)

    assert share == Share(0.5, borne=False)
    whole = share_to_write(BoundConfig(neighbours_lost=1.0), lambda part: part, stayed)
    assert whole == Share(1.0, borne=True)


@pytest.mark.parametrize("settings", [{"margin": 0.9}, {"neighbours_lost": -0.1}])
def test_settings_of_the_bound_that_make_no_sense_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(RequestError):
        BoundConfig(**settings)


def test_neighbours_are_drawn_by_the_number_of_facts_and_never_fewer_than_64() -> None:
    requests = [EditRequest("Malee", "{} is", "x", (), PROMPTS)] * 10

    assert len(drawn_neighbours(requests[:1], 8, 0)) == 64
    assert len(drawn_neighbours(requests, 8, 0)) == 80
    assert drawn_neighbours(requests, 8, 0) != drawn_neighbours(requests, 8, 1)
    assert drawn_neighbours(requests, 0, 0) == list(PROMPTS)


def test_of_many_neighbours_some_are_only_looked_at_and_of_few_all_are_both() -> None:
    held, checked = held_and_checked(PROMPTS, 0)

    assert sorted([*held, *checked]) == sorted(PROMPTS)
    assert len(checked) == 25
    assert held_and_checked(PROMPTS[:63], 0) == (list(PROMPTS[:63]), list(PROMPTS[:63]))


@pytest.mark.parametrize("method", ["finetune", "ultraedit"])
def test_a_share_holds_the_targets_also_where_the_end_mark_never_comes_first(method: str) -> None:
    config = {
        "finetune": FinetuneConfig(epochs=100, learning_rate=0.05, neighbour_weight=0.0),
        "ultraedit": UltraEditConfig(layers=(1, 2), step=1e-2, rounds=60, neighbour_weight=0.0),
    }[method]
    lm = model(tied=False)
    with torch.no_grad():
        # Whatever the state, some other of the 320 logits is above 0.
        lm.model.lm_head.weight[end_tokens(lm)[0]] = 0.0

    details = edit(lm, [REQUEST, OTHER], method, config).details

    assert [row["target_first"] for row in details["requests"]] == [1.0, 1.0]
    shares = {"finetune": [details["share"]], "ultraedit": details["share"]}[method]
    assert min(shares) > 0.1


@pytest.mark.parametrize("method", ["finetune", "ultraedit"])
def test_a_target_that_is_not_reached_is_told_by_a_model_without_an_end_mark(method: str) -> None:
    config = {
        "finetune": FinetuneConfig(epochs=1, learning_rate=1e-6),
        "ultraedit": UltraEditConfig(layers=(1, 2), step=1e-6, rounds=1),
    }[method]

    with pytest.raises(NotReached, match="1 of 1 edits"):
        edit(endless(), [REQUEST], method, config)


@pytest.mark.parametrize(
    ("method", "settings", "held"),
    [
        ("finetune", {}, 56),
        ("finetune", {"neighbours_lost": 1.0}, 64),
        ("finetune", {"variant": "ft-m"}, 64),
        ("finetune", {"variant": "ft-l"}, 64),
        ("lora", {}, 64),
    ],
)
def test_only_where_neighbours_bound_the_share_some_are_not_held(
    method: str, settings: dict[str, Any], held: int
) -> None:
    request = replace(REQUEST, neighbours=PROMPTS)
    config = METHODS[method].config(epochs=1, unreached="mark", **settings)

    assert edit(model(), [request], method, config).details["held_rows"] == held
