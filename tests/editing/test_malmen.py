from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from editing import edit, malmen
from editing.gradient_factors import gradient_factors, target_losses, tried
from editing.learned.change import projections_of
from editing.malmen import MalmenConfig, aggregate, back_substitute
from language_models import RequestError
from language_models.checkpoint import state_digest
from tests.editing.learned_cases import (
    OTHER,
    REQUEST,
    double_model,
    random_editor,
    scored,
    some_factors,
    tiny_editor,
)
from tests.language_models.factories import DENSE, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

D_IN, D_OUT = 7, 4


def _random(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _primal(K: Tensor, D: Tensor, ridge: Tensor) -> Tensor:
    gram = K.T @ K + ridge.exp() * torch.eye(K.shape[1], dtype=torch.float64)
    return torch.linalg.solve(gram, K.T @ D)


@pytest.mark.parametrize("count", [1, 3, 6, 7, 20])
def test_aggregate_solves_the_least_squares_by_either_system(count: int) -> None:
    K, D = _random(count, D_IN, seed=0), _random(count, D_OUT, seed=1)
    ridge = torch.tensor(0.3, dtype=torch.float64)

    left, right = aggregate(K, D, ridge)

    expected = _primal(K, D, ridge).T
    assert float((left @ right - expected).norm() / expected.norm()) < 5e-15


@pytest.mark.parametrize("count", [1, 3, 6, 7, 20])
def test_back_substitution_equals_autograd(count: int) -> None:
    K, D = _random(count, D_IN, seed=0), _random(count, D_OUT, seed=1).requires_grad_()
    ridge = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    G = _random(D_IN, D_OUT, seed=2)
    by_shift, by_ridge = torch.autograd.grad((G * _primal(K, D, ridge)).sum(), (D, ridge))

    found_shift, found_ridge = back_substitute(K, D.detach(), ridge.detach(), G)

    assert float((found_shift - by_shift).norm() / by_shift.norm()) < 1e-14
    assert abs(float((found_ridge - by_ridge) / by_ridge)) < 1e-14


def test_aggregate_with_an_endless_ridge_changes_nothing() -> None:
    K, D = _random(3, D_IN, seed=0), _random(3, D_OUT, seed=1)

    left, right = aggregate(K, D, torch.tensor(60.0, dtype=torch.float64))

    assert float((left @ right).norm()) < 1e-24


def test_aggregate_without_a_ridge_moves_each_value_by_its_shift() -> None:
    K, D = _random(3, D_IN, seed=0), _random(3, D_OUT, seed=1)

    left, right = aggregate(K, D, torch.tensor(-40.0, dtype=torch.float64))

    assert torch.allclose(K @ (left @ right).T, D, atol=1e-12)


def test_shift_goes_down_the_transformed_gradient_by_the_keys_likeness() -> None:
    lm = double_model()
    editor = random_editor(lm, malmen.RULE)
    for name, factors in some_factors(lm, "target").items():
        network, index = editor.at(name)
        keys, gradients = network(factors.keys, factors.gradients, index)

        found = malmen.shifts(network, factors, index)

        step = -0.05 * network.steps[index]
        for row, shift in enumerate(found):
            likeness = torch.dot(factors.keys[row], keys[row])
            assert torch.allclose(shift, -step * likeness * gradients[row], atol=1e-12)


def test_learning_in_two_stages_equals_autograd_through_the_whole_model() -> None:
    lm = double_model()
    editor, found = random_editor(lm, malmen.RULE), some_factors(lm, "target")
    projections = {one.name: one for one in projections_of(lm, (1, 2), "all")}
    rows = scored(lm, ("Malee Tanaka was born in", "Kyoto."))

    def loss(trial: dict[str, Tensor]) -> Tensor:
        with tried({name: (projections[name], change) for name, change in trial.items()}):
            return target_losses(lm, rows)[0].sum()

    def product(name: str) -> Tensor:
        network, index = editor.at(name)
        ridges = network.ridges
        assert ridges is not None
        D = malmen.shifts(network, found[name], index)
        return _primal(found[name].keys, D, ridges[index]).T

    whole = torch.autograd.grad(
        loss({name: product(name) for name in found}), list(editor.parameters())
    )
    trial = {name: product(name).detach().requires_grad_() for name in found}
    loss(trial).backward()
    editor.zero_grad()
    for name, change in trial.items():
        network, index = editor.at(name)
        assert change.grad is not None
        malmen.learn(network, found[name], index, change.grad)

    for weight, expected in zip(editor.parameters(), whole, strict=True):
        assert weight.grad is not None
        assert torch.allclose(weight.grad, expected, rtol=1e-9, atol=1e-12)


def test_factors_of_target_tokens_are_those_that_predict_the_target() -> None:
    lm = double_model()
    rows = scored(lm, ("Malee Tanaka was born in", "Kyoto."), ("Anna works as", "a court clerk."))
    projections = projections_of(lm, (0,), "second")

    found = gradient_factors(lm, projections, rows, tokens="target", rows_per_pass=1)

    wanted = sum(len(row.ids) - row.start for row in rows)
    assert len(found[projections[0].name].keys) == wanted


@pytest.mark.parametrize("family", DENSE)
def test_edit_applies_and_reverts_to_the_same_bits(family: str, tmp_path: Path) -> None:
    lm = tiny_model(family)
    folder = tiny_editor(lm, malmen.RULE, tmp_path, steps=0)
    digest = state_digest(lm.model)

    result = edit(lm, [REQUEST, OTHER], "malmen", MalmenConfig(editor=folder, unreached="mark"))

    assert state_digest(lm.model) != digest
    assert set(result.delta.entries) == {one.name for one in projections_of(lm, (1, 2), "second")}
    assert result.delta.revert(lm) == digest


def test_edit_of_more_tokens_than_the_matrix_has_rows_applies_and_reverts(tmp_path: Path) -> None:
    lm = tiny_model()
    folder = tiny_editor(lm, malmen.RULE, tmp_path, steps=0)
    digest = state_digest(lm.model)

    result = edit(lm, [REQUEST, OTHER] * 4, "malmen", MalmenConfig(editor=folder, unreached="mark"))

    assert all(row["rank"] <= 32 for row in result.details["tensors"].values())
    assert result.delta.revert(lm) == digest


def test_edit_without_an_editor_says_how_to_train_one() -> None:
    with pytest.raises(RequestError, match="python -m editing train --method malmen"):
        edit(tiny_model(), [REQUEST], "malmen")
