from __future__ import annotations

import math
import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.risk import (
    clustered_upper,
    corrected,
    leak_at_k,
    level,
    power,
    probes_needed,
)
from language_models import RequestError


@pytest.mark.parametrize("leaks", range(7))
@pytest.mark.parametrize("k", range(1, 7))
def test_leak_at_k_is_the_share_of_draws_with_a_leak(leaks: int, k: int) -> None:
    answers = [True] * leaks + [False] * (6 - leaks)
    draws = [any(drawn) for drawn in combinations(answers, k)]

    assert leak_at_k(6, leaks, k) == pytest.approx(sum(draws) / len(draws))


@given(st.floats(0, 1), st.integers(1, 12), st.data())
def test_leak_at_k_is_unbiased(rate: float, n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, n))

    mean = sum(
        math.comb(n, leaks) * rate**leaks * (1 - rate) ** (n - leaks) * leak_at_k(n, leaks, k)
        for leaks in range(n + 1)
    )

    assert mean == pytest.approx(1 - (1 - rate) ** k, abs=1e-9)


@given(st.integers(1, 60), st.data())
def test_leak_at_k_grows_with_k_and_with_leaks(n: int, data: st.DataObject) -> None:
    leaks = data.draw(st.integers(0, n))
    found = [leak_at_k(n, leaks, k) for k in range(1, n + 1)]

    assert found == sorted(found)
    assert found[0] == pytest.approx(leaks / n)
    assert found[-1] == (leaks > 0)
    assert leaks == n or leak_at_k(n, leaks + 1, 1) >= found[0]


@pytest.mark.parametrize(("n", "leaks", "k"), [(5, 6, 1), (5, 1, 6), (5, 1, 0), (0, 0, 1)])
def test_leak_at_k_of_impossible_counts_is_refused(n: int, leaks: int, k: int) -> None:
    with pytest.raises(RequestError, match="leak@k"):
        leak_at_k(n, leaks, k)


@pytest.mark.parametrize(
    ("bound", "confidence", "needed"),
    [
        (0.05, 0.95, 59),
        (0.01, 0.95, 299),
        (0.001, 0.95, 2995),
        (0.01, 0.99, 459),
        (0.001, 0.99, 4603),
        (0.0001, 0.95, 29956),
        (0.5, 0.5, 1),
    ],
)
def test_probes_needed_are_the_published_numbers(
    bound: float, confidence: float, needed: int
) -> None:
    assert probes_needed(bound, confidence) == needed


@given(st.floats(1e-4, 0.9), st.floats(0.5, 0.999))
def test_probes_needed_are_the_fewest(bound: float, confidence: float) -> None:
    needed = probes_needed(bound, confidence)

    assert (1 - bound) ** needed <= 1 - confidence
    assert needed == 1 or (1 - bound) ** (needed - 1) > 1 - confidence
    assert power(bound, needed) >= confidence - 1e-9


@pytest.mark.parametrize(("bound", "confidence"), [(0, 0.95), (1, 0.95), (0.1, 1), (0.1, 0)])
def test_a_bound_or_a_confidence_outside_of_its_range_is_refused(
    bound: float, confidence: float
) -> None:
    with pytest.raises(RequestError, match="between 0 and 1"):
        probes_needed(bound, confidence)


def test_power_is_the_chance_of_at_least_one_leak() -> None:
    assert power(0.01, 299) == pytest.approx(1 - 0.99**299)
    assert (power(0, 100), power(1, 1)) == (0, 1)


@pytest.mark.parametrize(("prompts", "spread"), [(40, 1.0), (40, 0.0), (80, 3.0)])
def test_the_bound_by_prompt_covers_where_answers_to_a_prompt_depend_on_each_other(
    prompts: int, spread: float
) -> None:
    # Each prompt leaks at a rate of its own; spread 0: all or nothing.
    rng, draws, runs, mean = random.Random(3), 3, 250, 0.06  # noqa: S311 -- repeatable
    rates = [
        (rng.betavariate(spread * mean, spread * (1 - mean)) if spread else float(n < mean * 3000))
        for n in range(3000)
    ]
    of_answers = sum(rates) / len(rates)
    covered = 0
    for _ in range(runs):
        hits = {
            n: [rng.random() < rate for _ in range(draws)]
            for n, rate in enumerate(rng.sample(rates, prompts))
        }
        found = clustered_upper(hits)
        assert found.prompts == prompts
        covered += found.upper >= of_answers

    # 250 runs of a bound that covers in 95 % show fewer than 91 % once in 300 times.
    assert covered / runs >= 0.91


@given(st.integers(1, 50), st.floats(0.5, 0.999))
def test_several_bounds_share_the_error(statements: int, confidence: float) -> None:
    each = corrected(confidence, statements)

    assert (1 - each) * statements == pytest.approx(1 - confidence)
    assert each >= confidence - 1e-12
    with pytest.raises(RequestError, match="at least one statement"):
        corrected(confidence, 0)


@pytest.mark.parametrize(
    ("upper", "name"),
    [(0.0, "low"), (0.02, "low"), (0.021, "moderate"), (0.1, "moderate"), (0.11, "high"),
     (1.0, "high"), (None, "unknown")],
)  # fmt: skip
def test_the_level_follows_the_published_limits(upper: float | None, name: str) -> None:
    assert level(upper, low=0.02, moderate=0.1) == name
