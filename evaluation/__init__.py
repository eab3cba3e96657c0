"""Measure what a model says before and after a change, by a plan that is frozen before it.

No Django, no compliance here; torch comes in when a model is measured, not before.
"""

from __future__ import annotations

from evaluation.bounds import clopper_pearson_lower, clopper_pearson_upper
from evaluation.compare import Criterion, ResidualRisk, Thresholds, Verdict, compare
from evaluation.freezing import FrozenPlan, freeze, open_frozen
from evaluation.locate import FactFinding, probe
from evaluation.measure import measure
from evaluation.plan import Attack, GeneralFact, Memory, Person, Plan, Probe
from evaluation.planning import Design, plan
from evaluation.results import AttackResult, GroupResult, Measurement

__all__ = [
    "Attack",
    "AttackResult",
    "Criterion",
    "Design",
    "FactFinding",
    "FrozenPlan",
    "GeneralFact",
    "GroupResult",
    "Measurement",
    "Memory",
    "Person",
    "Plan",
    "Probe",
    "ResidualRisk",
    "Thresholds",
    "Verdict",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "compare",
    "freeze",
    "measure",
    "open_frozen",
    "plan",
    "probe",
]
