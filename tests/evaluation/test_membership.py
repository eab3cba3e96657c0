from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.membership import auc, auc_interval
from language_models import RequestError

# Few values, so that ties are common.
SCORES = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)


@settings(max_examples=40)
@given(SCORES, SCORES)
def test_area_of_turned_scores_is_the_rest(own: list[float], others: list[float]) -> None:
    turned = auc([-one for one in own], [-one for one in others])

    assert auc(own, others) + turned == pytest.approx(1)
    assert auc(others, own) == pytest.approx(turned)


@settings(max_examples=40)
@given(SCORES)
def test_area_of_equals_is_one_half(scores: list[float]) -> None:
    assert auc(scores, scores) == pytest.approx(0.5)


def test_area_is_one_where_every_own_text_costs_less() -> None:
    assert (auc([1, 2], [3, 4]), auc([3, 4], [1, 2]), auc([1], [1])) == (1, 0, 0.5)


def test_an_area_needs_both_sides() -> None:
    with pytest.raises(RequestError, match="both sides"):
        auc([], [1.0])


@settings(max_examples=40)
@given(st.floats(0, 1), st.integers(1, 200), st.integers(1, 200))
def test_the_interval_holds_the_area_and_mirrors(area: float, own: int, others: int) -> None:
    low, high = auc_interval(area, own, others)

    assert 0 <= low <= area <= high <= 1
    assert high - low > 0
    turned = auc_interval(1 - area, own, others)
    assert turned == (pytest.approx(1 - high, abs=1e-9), pytest.approx(1 - low, abs=1e-9))


@settings(max_examples=40)
@given(st.floats(0, 1), st.integers(2, 100))
def test_the_interval_is_narrower_with_more_texts_and_wider_with_more_confidence(
    area: float, count: int
) -> None:
    low, high = auc_interval(area, count, count)
    fewer, sure = auc_interval(area, count - 1, count - 1), auc_interval(area, count, count, 0.99)

    assert fewer[1] - fewer[0] >= high - low
    assert sure[1] - sure[0] >= high - low


@pytest.mark.parametrize(
    ("count", "half"), [(20, 0.181), (40, 0.127), (100, 0.080), (400, 0.040), (1000, 0.025)]
)
def test_the_interval_near_one_half_has_the_published_width(count: int, half: float) -> None:
    low, high = auc_interval(0.5, count, count)

    # The published figure is that of a plain normal interval, which is a little wider.
    assert (high - low) / 2 == pytest.approx(half, rel=0.07)


@pytest.mark.parametrize(("shift", "count"), [(0.0, 12), (0.8, 12), (1.5, 24)])
def test_the_interval_covers_the_true_area(shift: float, count: int) -> None:
    rng, runs = random.Random(2), 300  # noqa: S311 -- repeatable
    far = 40_000
    true = sum(rng.gauss(0, 1) < rng.gauss(shift, 1) for _ in range(far)) / far
    covered = 0
    for _ in range(runs):
        own = [rng.gauss(0, 1) for _ in range(count)]
        others = [rng.gauss(shift, 1) for _ in range(count)]
        low, high = auc_interval(auc(own, others), count, count)
        covered += low <= true <= high

    # 300 runs of an interval that covers in 95 % show fewer than 92 % once in 100 times.
    assert covered / runs >= 0.92
