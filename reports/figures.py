"""Shape of a verification within the evidence of a case: every figure that was measured.

Part of the schema that reports/record.py names.
"""

from __future__ import annotations

from typing import Literal, TypedDict

# Their hints are read at run time.
from reports.fields import Count, Digest, Rate, Time  # noqa: TC001

GroupName = Literal[
    "leak",
    "control",
    "indirect",
    "indirect_control",
    "reliability",
    "new_value",
    "same_person",
    "others",
    "general",
]


class Group(TypedDict):
    """One group of probes before and after; bound_95 is the one-sided 95 % bound after."""

    group: GroupName
    label: str
    probes: Count
    before_hits: Count | None
    after_hits: Count
    before_rate: Rate | None
    after_rate: Rate
    bound_95: Rate
    bound_kind: Literal["upper", "lower"]


class Threshold(TypedDict):
    """One criterion of the plan with what was measured; bound is the side it must be held on."""

    name: str
    label: str
    measured: float
    bound: Literal["at most", "at least", ""]
    threshold: float
    unit: Literal["rate", "count", "number"]
    held: bool


class ResidualRisk(TypedDict):
    """Residual risk as a degree: level, one-sided 95 % upper bound, number of probes.

    level_upper_95 is the bound that the level follows from, upper_95 that of direct questions
    alone; null where nothing can be concluded, the first also in records of earlier schemas.
    leak_at: how many answers are drawn -> the chance that one of them leaks. chance_*: the same
    values, asked of people who do not exist.
    """

    level: str
    level_upper_95: Rate | None
    upper_95: Rate | None
    probes: Count
    statement: str
    leak_at: dict[str, Rate]
    chance_hits: Count
    chance_probes: Count


class Part(TypedDict):
    """A part of the probes: rates before and after, each between its one-sided 95 % bounds.

    key is "form:…", "language:…", "all", "control" (chance), "indirect", "indirect_control" or a
    class of neighbour.
    """

    key: str
    label: str
    probes: Count
    before: Rate
    before_low: Rate
    before_high: Rate
    after: Rate
    after_low: Rate
    after_high: Rate


class Attacked(TypedDict):
    """An attack on the changed model. before, chance, others: null where that was not asked.

    before: the rate under the attack before the change; others: right answers about other people
    under it, which tells whether the model still works.
    """

    key: str
    label: str
    probes: Count
    before: Rate | None
    after: Rate
    after_high: Rate
    chance: Rate | None
    others: Rate | None


class Tables(TypedDict):
    """Before and after by form and language, by class of neighbour, and under attacks."""

    leak: list[Part]
    neighbours: list[Part]
    attacks: list[Attacked]


class Membership(TypedDict):
    """How well a score tells the person's texts from strangers': area, two-sided 95 % interval.

    0.5 tells nothing; below 0.5 the person's texts are avoided, which is a trace as well.
    """

    score: str
    label: str
    before: Rate | None
    area: Rate
    low: Rate
    high: Rate


class TextScores(TypedDict):
    """How much of texts is held: strength (the end told from its beginning) and exact tokens."""

    whose: Literal["own", "strangers"]
    label: str
    count: Count
    strength_before: Rate | None
    strength: Rate
    exact_before: Rate | None
    exact: Rate


class FactRank(TypedDict):
    """Rank of the person's value among other people's: 1 is the likeliest, 0.5 is chance."""

    fact: str
    rivals: Count
    before: Rate | None
    rank: Rate


class Lens(TypedDict):
    """Share of prompts with the value among the `budget` likeliest tokens, one a layer from 0.

    chance: the same of people who do not exist; empty where they were not asked. layer: where most
    shows beyond chance; upper_95: one-sided bound there.
    """

    budget: Count
    probes: Count
    shares: list[Rate]
    chance: list[Rate]
    layer: Count
    upper_95: Rate


class Memory(TypedDict):
    """Traces that answers do not show; empty where they were not scored."""

    membership: list[Membership]
    texts: list[TextScores]
    facts: list[FactRank]
    lens: Lens | None


class Perplexity(TypedDict):
    """Perplexity of texts that the change did not see."""

    before: float | None
    after: float


class Verification(TypedDict):
    """Figures against the plan that was frozen before the change.

    passed says the same as outcome. reasons: what did not hold or cannot be relied on. measured_on:
    the weights with their hash, or the service with its address. tested, not_tested: classes of
    attack in words.
    """

    plan_commitment: Digest
    frozen_at: Time
    verified_at: Time
    outcome: Literal["passed", "failed", "unknown"]
    reasons: list[str]
    measured_on: str | None
    groups: list[Group]
    criteria: list[Threshold]
    passed: bool
    residual_risk: ResidualRisk
    tables: Tables
    memory: Memory
    perplexity: Perplexity | None
    tested: list[str]
    not_tested: list[str]
