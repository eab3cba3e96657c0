from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from editing.closed_form import Preserved, rank_one
from language_models import NotReached


def _random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _moment(size: int = 12) -> torch.Tensor:
    texts = _random(1, 40, size)
    return texts.T @ texts / 40


@given(seed=st.integers(0, 1000), count=st.integers(1, 6), slack=st.sampled_from([0.0, 1.0, 1e3]))
def test_mean_key_gets_its_new_value_exactly(seed: int, count: int, slack: float) -> None:
    W, delta, keys = _random(seed, 5, 12), _random(seed + 1, 5), _random(seed + 2, count, 12) + 1
    preserved = Preserved(_moment(), 100.0, 1e-4)

    left, right = rank_one(delta, keys, preserved, slack)

    mean = keys.mean(dim=0)
    assert torch.allclose((W + left @ right) @ mean, W @ mean + delta, atol=1e-9)
    assert torch.linalg.matrix_rank(left @ right) == 1


def test_every_key_gets_its_new_value_without_slack() -> None:
    delta, keys = _random(1, 5), _random(2, 4, 12)

    left, right = rank_one(delta, keys, Preserved(_moment(), 100.0, 1e-4), 0.0)

    assert torch.allclose(left @ right @ keys.T, delta[:, None].expand(5, 4), atol=1e-9)


def test_one_key_gives_romes_closed_form() -> None:
    delta, key = _random(1, 5), _random(2, 1, 12)
    preserved = Preserved(_moment(), 100.0, 1e-4)

    left, right = rank_one(delta, key, preserved, 0.0)

    inverse = torch.linalg.inv(preserved.matrix)
    u = inverse @ key[0] / (key[0] @ inverse @ key[0])
    assert torch.allclose(left @ right, torch.outer(delta, u), atol=1e-10)


def test_change_is_the_least_among_those_that_meet_the_keys() -> None:
    delta, keys = _random(1, 5), _random(2, 3, 12)
    preserved = Preserved(_moment(), 100.0, 1e-4)
    left, right = rank_one(delta, keys, preserved, 0.0)
    change = left @ right
    # Any other change that meets the keys differs by something that maps them to zero.
    free = torch.linalg.svd(keys).Vh[3:]

    def cost(matrix: torch.Tensor) -> torch.Tensor:
        return (matrix @ preserved.matrix @ matrix.T).trace()

    for seed in range(5):
        other = change + 0.1 * _random(seed, 5, len(free)) @ free
        assert torch.allclose(other @ keys.T, change @ keys.T, atol=1e-9)
        assert cost(other) > cost(change)


def test_preserved_keys_move_less_the_more_they_weigh() -> None:
    delta, keys, kept = _random(1, 5), _random(2, 1, 12), _random(3, 2, 12)
    moved = []
    for weight in (0.0, 1.0, 1e3, 1e6):
        preserved = Preserved(_moment(), 1.0, 1e-4)
        preserved.add(kept, weight)
        left, right = rank_one(delta, keys, preserved, 0.0)
        moved.append(float((left @ right @ kept.T).norm()))

    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 1e-3 * moved[0]


def test_keys_that_cannot_be_told_apart_are_refused() -> None:
    keys = torch.zeros(1, 12)

    with pytest.raises(NotReached):
        rank_one(_random(1, 5), keys, Preserved(_moment(), 1.0, 1e-4), 1.0)
