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
    sizes = [run["relative_change"] for run in runs if run["held"]]
    assert result.details["relative_change"] == min(sizes) < max(sizes)
    assert "Malee" not in json.dumps(result.details)
    assert state_digest(lm.model) != before
    assert result.delta.revert(lm) == before


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
