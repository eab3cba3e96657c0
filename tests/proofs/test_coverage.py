"""Coverage of the bounds: the sums, the drawn plans and what is said of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch

from evaluation.bounds import clopper_pearson_upper
from evaluation.risk import clustered_upper
from proofs import coverage as proof
from proofs.coverage import (
    Leaking,
    binomial,
    coverage,
    drawn,
    exact,
    holds,
    less_chance,
    rates,
    tables,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evaluation.risk import Clustered


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
    assert holds([row], [], [])
    assert not holds([row | {"lower": 0.949}], [], [])
    assert not holds([row], [{"covered": 0.94}], [])
    assert not holds([row], [], [{"by_prompt": 0.94}])


def test_rates_of_answers_are_those_of_the_drawn() -> None:
    torch.manual_seed(1)
    leaking = Leaking("some", 0.5, 1.0, 3.0)
    rate = leaking.draw(400, 50)
    assert float(rate.mean()) == pytest.approx(leaking.answers, abs=0.01)


def test_taking_answers_as_independent_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "PLANS", 500)
    torch.manual_seed(1)
    row = drawn(Leaking("always or never", 0.02, 20.0, 1.0), 60, (5,))
    assert row["by_prompt"] > 0.95 > row["independent"]
    less = less_chance(12, 6)
    text = tables([exact(10, 0.95), exact(10, 0.99)], [less], [row])
    assert text.count("always or never") == 1
    assert "worst by sums at 95%: 0.95" in text
    assert f"| 12 | 6 | {less['covered']:.4f} |" in text


def test_chance_taken_as_known_covers_too_seldom() -> None:
    row = less_chance(24, 12)
    assert row["covered"] >= 0.95 > 0.92 > row["known"]


def test_drawn_plans_are_put_to_the_bound_by_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def seen(hits: Mapping[object, Sequence[bool]]) -> Clustered:
        given.append([len(answers) for answers in hits.values()])
        return clustered_upper(hits)

    monkeypatch.setattr(proof, "PLANS", 50)
    monkeypatch.setattr(proof, "clustered_upper", seen)
    torch.manual_seed(1)
    drawn(Leaking("some", 0.5, 1.0, 3.0), 5, (1, 3))
    assert given
    assert all(lengths == [1, 3, 1, 3, 1] for lengths in given)
