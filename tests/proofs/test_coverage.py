"""Coverage of the bounds: the sums, the drawn plans and what is said of them."""

from __future__ import annotations

import math

import pytest
import torch

from evaluation.bounds import clopper_pearson_upper
from proofs import coverage as proof
from proofs.coverage import Leaking, binomial, coverage, drawn, exact, holds, rates, tables


@pytest.mark.parametrize("p", [0.001, 0.3, 0.999])
def test_chances_sum_to_one_and_have_the_mean(p: float) -> None:
    chances = binomial(40, p)
    assert math.fsum(chances) == pytest.approx(1)
    assert sum(k * chance for k, chance in enumerate(chances)) == pytest.approx(40 * p)


def test_coverage_just_above_a_bound_is_the_confidence() -> None:
    bounds = [clopper_pearson_upper(k, 20) for k in range(21)]
    for bound in bounds[:-1]:
        assert coverage(bounds, 20, math.nextafter(bound, 1)) == pytest.approx(0.95, abs=1e-9)
        assert coverage(bounds, 20, bound - 1e-6) > 0.95
    assert {math.nextafter(bound, 1) for bound in bounds[:-1]} <= set(rates(bounds))


@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_least_coverage_is_never_less_than_said(confidence: float) -> None:
    row = exact(12, confidence)
    assert row["upper"] == pytest.approx(confidence, abs=1e-9)
    assert row["lower"] == pytest.approx(confidence, abs=1e-9)


def test_a_bound_that_is_too_low_is_seen() -> None:
    row = exact(12, 0.95)
    assert holds([row], [])
    assert not holds([row | {"lower": 0.949}], [])
    assert not holds([row], [{"by_prompt": 0.94}])


def test_rates_of_answers_are_those_of_the_drawn() -> None:
    torch.manual_seed(1)
    leaking = Leaking("some", 0.5, 1.0, 3.0)
    rate = leaking.draw(400, 50)
    assert float(rate.mean()) == pytest.approx(leaking.answers, abs=0.01)


def test_taking_answers_as_independent_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "PLANS", 500)
    torch.manual_seed(1)
    row = drawn(Leaking("always or never", 0.02, 20.0, 1.0), 60, 5)
    assert row["by_prompt"] > 0.95 > row["independent"]
    text = tables([exact(10, 0.95), exact(10, 0.99)], [row])
    assert text.count("always or never") == 1
    assert "worst by sums at 95%: 0.95" in text
