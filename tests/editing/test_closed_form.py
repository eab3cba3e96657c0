"""The closed forms against what defines them (reference figures: relative errors in float64)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from editing.closed_form import (
    compact,
    constrained,
    in_null_space,
    least_squares,
    null_space,
    rank_one,
)
from language_models import NotReached, RequestError

D, OUT = 12, 5
EXACT = 1e-13
seeds = st.integers(0, 10_000)
counts = st.integers(1, 6)


def _random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _moment(seed: int = 0, d: int = D) -> torch.Tensor:
    X = _random(seed, 4 * d, d)
    return X.T @ X / len(X) + 0.1 * torch.eye(d, dtype=torch.float64)


def _off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm().clamp(min=1e-300))


@given(seeds, counts)
def test_constrained_meets_every_key_and_is_the_least_such_change(seed: int, n: int) -> None:
    A, K, R = _moment(seed), _random(seed + 1, D, n), _random(seed + 2, OUT, n)

    delta = R @ constrained(K, A)

    assert _off(delta @ K, R) < EXACT
    # Any other change that meets the keys differs by something that maps them to zero.
    free = torch.linalg.svd(K.T).Vh[n:]
    other = delta + 0.1 * _random(seed + 3, OUT, len(free)) @ free
    assert _off(other @ K, R) < EXACT
    assert (other @ A @ other.T).trace() > (delta @ A @ delta.T).trace()


@given(seeds)
def test_constrained_of_one_key_is_romes_change(seed: int) -> None:
    A, k, delta = _moment(seed), _random(seed + 1, D), _random(seed + 2, OUT)

    left, right = rank_one(delta, k[:, None], A)

    inverse = torch.linalg.inv(A)
    assert _off(left @ right, torch.outer(delta, inverse @ k / (k @ inverse @ k))) < EXACT
    assert _off(delta[:, None] @ constrained(k[:, None], A), left @ right) < EXACT


@given(seeds, counts, st.sampled_from([0.0, 1.0, 100.0]))
def test_rank_one_maps_the_mean_key_to_its_value(seed: int, n: int, slack: float) -> None:
    A, K, delta = _moment(seed), 1 + 0.1 * _random(seed + 1, D, n), _random(seed + 2, OUT)

    left, right = rank_one(delta, K, A, slack)

    assert _off(left @ (right @ K.mean(dim=1)), delta) < EXACT
    assert torch.linalg.matrix_rank(left @ right) == 1


def test_rank_one_meets_every_key_without_slack() -> None:
    A, K, delta = _moment(), _random(2, D, 4), _random(1, OUT)

    left, right = rank_one(delta, K, A)

    assert _off(left @ right @ K, delta[:, None].expand(-1, 4)) < EXACT


@given(seeds, st.integers(1, 30))
def test_least_squares_equals_both_of_its_forms(seed: int, n: int) -> None:
    A, K = _moment(seed), _random(seed + 1, D, n)

    gain = least_squares(K, A)

    inverse = torch.linalg.inv(A)
    assert _off(gain, K.T @ torch.linalg.inv(A + K @ K.T)) < EXACT
    dual = torch.linalg.inv(torch.eye(n, dtype=torch.float64) + K.T @ inverse @ K) @ K.T @ inverse
    assert _off(gain, dual) < EXACT


@given(seeds, counts)
def test_least_squares_minimises_its_sum(seed: int, n: int) -> None:
    A, K, R = _moment(seed), _random(seed + 1, D, n), _random(seed + 2, OUT, n)

    def cost(delta: torch.Tensor) -> torch.Tensor:
        return (delta @ A @ delta.T).trace() + (delta @ K - R).square().sum()

    delta = R @ least_squares(K, A)

    for step in range(3):
        assert cost(delta) < cost(delta + 0.01 * _random(seed + 3 + step, OUT, D))


def test_least_squares_tends_to_constrained_in_proportion_to_the_weight_of_the_moment() -> None:
    C, K, R = _moment(), _random(1, D, 4), _random(2, OUT, 4)
    exact = R @ constrained(K, C)

    errors = [float((R @ least_squares(K, w * C) - exact).norm()) for w in (1e-2, 1e-4, 1e-6)]

    assert errors[0] / errors[1] == pytest.approx(100, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(100, rel=0.05)


def test_least_squares_of_a_huge_moment_changes_nothing() -> None:
    assert float(
        (_random(2, OUT, 4) @ least_squares(_random(1, D, 4), 1e12 * _moment())).norm()
    ) < (1e-9)


@given(seeds, counts, counts)
def test_edits_one_after_another_equal_one_batch(seed: int, n: int, m: int) -> None:
    A = _moment(seed)
    K, R = _random(seed + 1, D, n + m), _random(seed + 2, OUT, n + m)
    at_once = R @ least_squares(K, A)

    first = R[:, :n] @ least_squares(K[:, :n], A)
    # What the first change already does to the later keys is not asked for again.
    missing = R[:, n:] - first @ K[:, n:]
    later = missing @ least_squares(K[:, n:], A + K[:, :n] @ K[:, :n].T)

    assert _off(first + later, at_once) < EXACT


@given(seeds, counts, counts)
def test_edits_in_the_null_space_one_after_another_equal_one_batch(
    seed: int, n: int, m: int
) -> None:
    U = torch.linalg.qr(_random(seed, D, 6)).Q
    B = torch.zeros(D, D, dtype=torch.float64)
    K, R = _random(seed + 1, D, n + m), _random(seed + 2, OUT, n + m)
    at_once = R @ in_null_space(K, B, U, 1.0)

    first = R[:, :n] @ in_null_space(K[:, :n], B, U, 1.0)
    missing = R[:, n:] - first @ K[:, n:]
    later = missing @ in_null_space(K[:, n:], K[:, :n] @ K[:, :n].T, U, 1.0)

    assert _off(first + later, at_once) < EXACT


@given(seeds, counts)
def test_in_null_space_equals_alphaedits_equation_and_stays_inside(seed: int, n: int) -> None:
    U = torch.linalg.qr(_random(seed, D, 6)).Q
    P = U @ U.T
    K, K_p, R = _random(seed + 1, D, n), _random(seed + 2, D, 3), _random(seed + 3, OUT, n)
    eye = torch.eye(D, dtype=torch.float64)

    delta = R @ in_null_space(K, K_p @ K_p.T, U, 2.0)

    # AlphaEdit, eq. 14: Δ = R KᵀP (K_p K_pᵀP + K KᵀP + λI)⁻¹
    system = K_p @ K_p.T @ P + K @ K.T @ P + 2.0 * eye
    assert _off(delta, R @ K.T @ P @ torch.linalg.inv(system)) < EXACT
    assert float((delta @ (eye - P)).norm()) < EXACT * float(delta.norm() + 1)
    assert float((delta @ (eye - P) @ _random(seed + 4, D)).norm()) < EXACT


@given(seeds, st.sampled_from([1e-3, 1e3]))
def test_null_space_does_not_depend_on_the_scale_of_the_keys(seed: int, scale: float) -> None:
    C = _moment(seed)

    space, scaled = null_space(C, 0.3), null_space(scale * C, 0.3)

    assert space.basis.shape == scaled.basis.shape
    P, Q = space.basis @ space.basis.T, scaled.basis @ scaled.basis.T
    assert _off(P, Q) < 1e-8
    assert _off(P @ P, P) < EXACT
    assert (space.basis.T @ C @ space.basis).trace() / C.trace() == pytest.approx(space.share)
    assert space.share <= 0.3


def test_null_space_by_threshold_holds_the_eigenvalues_below_it() -> None:
    values = torch.linspace(0.1, 1.2, D, dtype=torch.float64)

    assert null_space(values.diag(), 0.5, 0.35).basis.shape == (D, 3)


@pytest.mark.parametrize("settings", [(1e-6, 0.0), (0.5, 1e-6)])
def test_null_space_that_is_empty_is_an_error_not_a_silent_nothing(
    settings: tuple[float, float],
) -> None:
    with pytest.raises(RequestError, match="no null space"):
        null_space(torch.eye(D, dtype=torch.float64), *settings)


def test_kept_keys_move_less_the_more_they_weigh() -> None:
    K, kept, R = _random(2, D, 2), _random(3, D, 2), _random(1, OUT, 2)
    moved = [
        float((R @ least_squares(K, _moment() + weight * (kept @ kept.T)) @ kept).norm())
        for weight in (0.0, 1.0, 1e3, 1e6)
    ]

    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 1e-3 * moved[0]


def test_keys_that_cannot_be_told_apart_are_refused() -> None:
    same = _random(1, D, 1).expand(-1, 2)

    with pytest.raises(NotReached, match="cannot be told apart"):
        constrained(torch.zeros(D, 1, dtype=torch.float64), _moment())
    with pytest.raises(NotReached, match="cannot be told apart"):
        rank_one(_random(1, OUT), torch.zeros(D, 1, dtype=torch.float64), _moment(), 1.0)
    assert torch.isfinite(constrained(same, _moment(), 1.0)).all()


@given(seeds, st.integers(1, 12))
def test_compact_keeps_the_product(seed: int, n: int) -> None:
    left, right = _random(seed, OUT, n), _random(seed + 1, n, D)

    small, wide = compact(left, right)

    assert small.shape[1] <= OUT
    assert _off(small @ wide, left @ right) < EXACT
