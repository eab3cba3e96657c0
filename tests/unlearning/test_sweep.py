from __future__ import annotations

import json

import pytest

from language_models import NotReached, RequestError
from language_models.checkpoint import state_digest
from tests.unlearning.learnt import FORGET, RETAIN, gates, learnt_model
from unlearning.npo import NpoConfig
from unlearning.sweep import grid, sweep


def test_least_invasive_run_that_holds_the_gates_is_kept() -> None:
    lm = learnt_model()
    before = state_digest(lm.model)
    mild = ("npo", NpoConfig(learning_rate=1e-6, steps=2))
    passing = [*grid("npo", learning_rate=(3e-3, 1e-3)), *grid("ceu", learning_rate=(3e-3,))]

    result = sweep(lm, FORGET, RETAIN, [mild, *passing], gates())

    runs = result.details["runs"]
    assert [run["held"] for run in runs] == [False, True, True, True]
    sizes = [run["relative_change"] for run in runs if run["held"] and run["margin"] >= 1.5]
    assert result.details["relative_change"] == min(sizes) < max(sizes)
    assert "Malee" not in json.dumps(result.details)
    assert state_digest(lm.model) != before
    assert result.delta.revert(lm) == before


def test_smaller_change_without_the_margin_comes_second() -> None:
    lm = learnt_model()
    narrow = grid("npo", learning_rate=(3e-3,), steps=(12,))
    wide = grid("simnpo", learning_rate=(1e-2,), steps=(40,))
    limits = {"margin": 6.0, "retain_drop": 0.9, "general_drop": 0.9}

    result = sweep(lm, FORGET, RETAIN, [*narrow, *wide], gates(**limits))

    first, second = result.details["runs"]
    assert first["held"]
    assert second["held"]
    assert first["relative_change"] < second["relative_change"]
    assert result.details["method"] == "simnpo"
    assert first["margin"] < second["margin"] == pytest.approx(6.0)


def test_sweep_in_which_no_run_holds_changes_nothing() -> None:
    lm = learnt_model()
    before = state_digest(lm.model)
    weak = grid("npo", learning_rate=(1e-6,), steps=(1,))
    collapsing = grid("gradient_ascent", learning_rate=(1e-2,))

    with pytest.raises(NotReached, match="None of 2 runs"):
        sweep(lm, FORGET, RETAIN, [*weak, *collapsing], gates())

    assert state_digest(lm.model) == before


def test_grid_is_every_combination() -> None:
    found = grid("npo", learning_rate=(1e-4, 2e-4), retain_weight=(1.0, 5.0))

    assert [(config.learning_rate, config.retain_weight) for _, config in found] == [
        (1e-4, 1.0),
        (1e-4, 5.0),
        (2e-4, 1.0),
        (2e-4, 5.0),
    ]
    with pytest.raises(RequestError, match="no setting"):
        grid("npo", speed=(1,))


def test_sweep_without_candidates_or_with_wrong_ones_is_refused() -> None:
    lm = learnt_model()

    with pytest.raises(RequestError, match="at least one"):
        sweep(lm, FORGET, RETAIN, [], gates())
    with pytest.raises(RequestError, match="NpoConfig"):
        sweep(lm, FORGET, RETAIN, [("npo", gates())], gates())
