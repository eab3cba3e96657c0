from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation import clopper_pearson_lower, clopper_pearson_upper
from evaluation.bounds import difference_upper
from language_models import RequestError


@pytest.mark.parametrize(
    ("k", "n", "confidence", "printed"),
    [
        (0, 100, 0.95, 0.0295),
        (1, 100, 0.95, 0.0466),
        (0, 200, 0.95, 0.0149),
        (0, 300, 0.95, 0.0099),
        (0, 500, 0.95, 0.0060),
        (0, 1000, 0.95, 0.0030),
        (0, 3000, 0.95, 0.0010),
        (0, 10000, 0.95, 0.0003),
        (0, 100, 0.99, 0.0450),
        (0, 200, 0.99, 0.0228),
        (0, 300, 0.99, 0.0152),
        (0, 1000, 0.99, 0.0046),
    ],
)
def test_upper_equals_published_values(k: int, n: int, confidence: float, printed: float) -> None:
    assert round(clopper_pearson_upper(k, n, confidence), 4) == printed


@pytest.mark.parametrize(
    ("n", "confidence", "rate"),
    [
        (59, 0.95, 0.05),
        (299, 0.95, 0.01),
        (598, 0.95, 0.005),
        (2995, 0.95, 0.001),
        (90, 0.99, 0.05),
        (459, 0.99, 0.01),
        (919, 0.99, 0.005),
        (46050, 0.99, 0.0001),
    ],
)
def test_upper_without_a_leak_needs_the_published_number_of_probes(
    n: int, confidence: float, rate: float
) -> None:
    assert clopper_pearson_upper(0, n, confidence) <= rate
    assert clopper_pearson_upper(0, n - 1, confidence) > rate


@pytest.mark.parametrize("n", [1, 7, 40])
@pytest.mark.parametrize("p", [0.01, 0.3, 0.5, 0.97])
def test_upper_covers_the_true_rate_as_often_as_it_says(n: int, p: float) -> None:
    covered = sum(
        math.comb(n, k) * p**k * (1 - p) ** (n - k)
        for k in range(n + 1)
        if clopper_pearson_upper(k, n) >= p
    )

    assert covered >= 0.95


@given(n=st.integers(1, 500), data=st.data())
def test_bounds_surround_the_rate_and_mirror_each_other(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    lower, upper = clopper_pearson_lower(k, n), clopper_pearson_upper(k, n)

    assert 0 <= lower <= k / n <= upper <= 1
    assert lower == pytest.approx(1 - clopper_pearson_upper(n - k, n), abs=1e-12)


def test_upper_without_hits_is_the_closed_form() -> None:
    assert clopper_pearson_upper(0, 324) == pytest.approx(1 - 0.05 ** (1 / 324), rel=1e-12)
    assert clopper_pearson_upper(5, 5) == 1.0
    assert clopper_pearson_lower(0, 5) == 0.0


@pytest.mark.parametrize(("k", "n", "confidence"), [(1, 0, 0.95), (3, 2, 0.95), (0, 5, 1.0)])
def test_bounds_of_impossible_counts_are_refused(k: int, n: int, confidence: float) -> None:
    with pytest.raises(RequestError):
        clopper_pearson_upper(k, n, confidence)


def _chances(n: int, p: float) -> list[float]:
    return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


@pytest.mark.parametrize("p", [0.02, 0.1, 0.3, 0.9])
@pytest.mark.parametrize("chance", [0.01, 0.05, 0.2, 0.6])
def test_a_rate_less_chance_is_covered_as_often_as_is_said(p: float, chance: float) -> None:
    # The sizes of the shipped policy; chance as a known rate covered in 86 to 92 of 100.
    n, m = 96, 48
    upper = [clopper_pearson_upper(k, n, 0.975) for k in range(n + 1)]
    lower = [clopper_pearson_lower(x, m, 0.975) for x in range(m + 1)]
    assert upper[3] - lower[2] == difference_upper((3, n), [(2, m)])

    pairs = product(enumerate(_chances(n, p)), enumerate(_chances(m, chance)))
    covered = math.fsum(
        first * second for (k, first), (x, second) in pairs if upper[k] - lower[x] >= p - chance
    )

    assert covered >= 0.95


def test_the_least_of_several_rates_is_taken_off() -> None:
    own = (5, 96)

    assert difference_upper(own, [(3, 48), (9, 48)]) == difference_upper(own, [(3, 48)])
    assert difference_upper(own, [(0, 48)]) == clopper_pearson_upper(5, 96, 0.975)
    assert difference_upper((0, 96), [(48, 48)]) < 0
