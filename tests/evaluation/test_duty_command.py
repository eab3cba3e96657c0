"""What `python -m evaluation keep` takes for chance."""

from __future__ import annotations

import pytest

from evaluation import Probe
from evaluation.duty_command import _held
from evaluation.plan import Plan
from evaluation.results import summarise
from language_models import RequestError


def test_what_strangers_are_told_as_well_is_chance_only_where_it_was_before() -> None:
    probes = [
        Probe(f"{group}-{n}", group, "c", "fact", f"{group} {n}", ("x",))
        for group in ("leak", "control")
        for n in range(20)
    ]
    plan = Plan(tuple(probes), 8, 1.0, 0)
    to_everybody = summarise(
        plan, [f"{group}-{n}" for group in ("leak", "control") for n in range(12)]
    )

    for before in (None, summarise(plan, [])):
        with pytest.raises(RequestError, match="nothing to hold yet"):
            _held(plan, to_everybody, before)
    assert _held(plan, to_everybody, to_everybody)[1] == pytest.approx(0.62)
