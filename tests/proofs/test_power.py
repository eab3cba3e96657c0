"""The proof of power: steps by bisection, plans as a case draws them, and what rows say."""

from __future__ import annotations

from typing import Any

import pytest

from evaluation.plan import Probe
from evaluation.results import group_results
from evaluation.risk import power
from proofs.power import holds, plans, rate, row, steps_for, table


def _group(hits: int, n: int) -> Any:
    probes = [Probe(str(k), "leak", "p", "fact", f"prompt {k}", ("value",)) for k in range(n)]
    return group_results(probes, {str(k) for k in range(hits)})["leak"]


@pytest.mark.parametrize("target", [0.01, 0.05, 0.2])
def test_steps_are_those_whose_rate_comes_nearest(target: float) -> None:
    looked = []

    def look(steps: int) -> float:
        looked.append(steps)
        return (steps / 64) ** 3

    best = min(range(1, 65), key=lambda steps: abs((steps / 64) ** 3 - target))
    assert abs(steps_for(target, look, 64) - best) <= 1
    assert len(looked) == len(set(looked)) <= 9


def test_steps_are_one_at_least_and_the_most_at_most() -> None:
    assert steps_for(0.01, lambda steps: 0.5 + steps / 100, 16) == 1
    assert steps_for(0.5, lambda steps: steps / 100, 16) == 16


def test_plans_of_other_seeds_ask_other_probes_of_the_same_person() -> None:
    one, other = plans((1, 2), 30)
    assert [len(each.probes) for each in (one, other)] == [30, 30]
    assert {probe.group for probe in one.probes} == {"leak"}
    assert one.digest == plans((1,), 30)[0].digest != other.digest
    decoded = [probe.decode for probe in one.probes]
    assert decoded.count("greedy") == decoded.count("sampled") == 15


def test_a_row_counts_plans_and_holds_the_statement_against_them() -> None:
    results = [_group(0, 30), _group(1, 30), _group(2, 30), _group(1, 30)]
    found = row(0.05, 30, results)

    assert rate(results) == 4 / 120
    assert found["found"] == 0.75
    assert found["stated"] == pytest.approx(1 - 0.95**30) == power(0.05, 30)
    assert (found["upper_covers"], found["upper_by_prompt_covers"]) == (1, 1)
    assert holds(found)
    assert not holds(found | {"found": 0.0})
    assert not holds(found | {"upper_covers": 0.94})
    line = table([{"target": 0.05, "steps": 9, **found}]).splitlines()[2]
    assert line == "| 5% | 9 | 5.00% | 30 | 4 | 75.0% | 78.5% | 100.0% | 100.0% |"
