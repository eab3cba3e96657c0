"""Shape of the two records that are rendered: the evidence of one case, and one letter.

The classes are the schema: `reports.evidence` checks a record against these annotations. All
times are ISO 8601 with an offset, all digests SHA-256 in lower-case hexadecimal, all rates
fractions of 1. A new field, or a new meaning of an old one, needs a new schema name.
"""

from __future__ import annotations

from typing import Any, Literal, NewType, TypedDict

REPORT_SCHEMA = "lethe.report/2"
LETTER_SCHEMA = "lethe.letter/1"

REPORT_FILE = "evidence.json"
LETTER_FILE = "letter.json"
PROOF_FILE = "log.tlog-proof"

Time = NewType("Time", str)
"""ISO 8601 with offset, for example 2026-11-22T14:31:00+00:00."""

Date = NewType("Date", str)
"""ISO 8601 calendar day, for example 2026-11-22."""

Digest = NewType("Digest", str)
"""SHA-256, 64 lower-case hexadecimal digits."""

Rate = NewType("Rate", float)
"""Fraction from 0 to 1."""

Count = NewType("Count", int)
"""Whole number from 0."""

Outcome = Literal["fulfilled", "partly_fulfilled", "refused", "withdrawn", "nothing_found"]
GroupName = Literal[
    "leak", "control", "reliability", "new_value", "same_person", "others", "general"
]
Language = Literal["en", "th", "ja", "lo"]


class Law(TypedDict):
    """The law applied; reviewed says whether a lawyer signed this version of its pack."""

    id: str
    name: str
    version: str
    articles: list[str]
    reviewed: bool


class Case(TypedDict):
    """What was asked, by whom (pseudonym) and how it ended."""

    reference: str
    organisation: str
    status: str
    outcome: Outcome
    kind: Literal["removal", "correction"]
    law: Law
    received_at: Time
    finished_at: Time
    requester: str


class Identity(TypedDict):
    """How the identity was checked; never the proof itself."""

    method: str
    confirmed_at: Time
    confirmed_by: str
    summary: str


class Clock(TypedDict):
    """One deadline; source is the article it comes from."""

    kind: str
    started_at: Time
    due_at: Time
    met_at: Time | None
    source: str


class Fact(TypedDict):
    """One kind of information: hits of probes gave it out."""

    fact: str
    probes: Count
    hits: Count


class Site(TypedDict):
    """Where the change is made: token role and layer."""

    role: str
    layer: Count


class Trace(TypedDict):
    """Causal trace: grid[role][layer] is the probability restored there.

    low is the probability with the subject corrupted, high the one of the untouched run.
    """

    roles: list[str]
    layers: list[Count]
    grid: list[list[Rate]]
    low: Rate
    high: Rate
    site: Site
    warning: str | None


class Findings(TypedDict):
    """What was found in one target; facts_given_out counts facts with at least one hit."""

    how: str
    probes: Count
    facts_given_out: Count
    facts: list[Fact]
    records: Count | None
    trace: Trace | None


class Criterion(TypedDict):
    """One stated criterion of the choice of method, as answered for this target."""

    question: str
    answer: str
    effect: str


class Decision(TypedDict):
    """Who chose which measure and why; decided_by is null while nobody has decided."""

    measure: str
    method: str
    guarantee_class: str
    proposed_by: str
    proposed_at: Time
    decided_by: str | None
    decided_at: Time | None
    outcome: str
    criteria: list[Criterion]
    reasons: str
    policy_version: str


class Application(TypedDict):
    """What was run on the target, with everything needed to run it again."""

    started_at: Time
    finished_at: Time
    seconds: float
    method: str
    parameters: dict[str, Any]
    seed: int | None
    hash_before: Digest
    hash_after: Digest
    delta_sha256: Digest | None
    details: dict[str, Any]
    software: dict[str, str]


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

    upper_95 is null where nothing can be concluded. leak_at: how many answers are drawn -> the
    chance that one of them leaks. chance_*: the same values, asked of people who do not exist.
    """

    level: str
    upper_95: Rate | None
    probes: Count
    statement: str
    leak_at: dict[str, Rate]
    chance_hits: Count
    chance_probes: Count


class Part(TypedDict):
    """A part of the probes: rates before and after, each between its one-sided 95 % bounds.

    key is "form:…", "language:…", "all", "control" (chance) or a class of neighbour.
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


class Attempt(Verification):
    """An earlier verification that did not pass; target is the id of the target."""

    target: str


class Target(TypedDict):
    """One model or dataset the case concerns, through its steps as far as they went."""

    id: str
    kind: Literal["model", "dataset"]
    name: str
    version_before: str
    version_after: str | None
    findings: Findings | None
    decision: Decision | None
    application: Application | None
    verification: Verification | None


class Refusal(TypedDict):
    """Why the request was refused, by whom, and where to complain."""

    ground: str
    article: str
    text: str
    facts: str
    proposed_by: str
    decided_by: str
    decided_at: Time
    complaint: str


class Notice(TypedDict):
    """One letter or notice that was sent."""

    kind: str
    made_at: Time
    sha256: Digest


class Event(TypedDict):
    """One leaf of the audit log."""

    seq: Count
    at: Time
    action: str
    actor: str
    digest: Digest


class Report(TypedDict):
    """The evidence of one case."""

    schema: Literal["lethe.report/2"]
    case: Case
    identity: Identity | None
    clocks: list[Clock]
    targets: list[Target]
    refusal: Refusal | None
    attempts: list[Attempt]
    not_tested: list[str]
    notices: list[Notice]
    events: list[Event]
    software: dict[str, str]
    made_at: Time


class Organisation(TypedDict):
    """Sender of a letter; address and contact may hold line breaks."""

    name: str
    address: str
    contact: str


class Table(TypedDict):
    """Each row has as many cells as head."""

    head: list[str]
    rows: list[list[str]]


class Block(TypedDict):
    """One part of a letter, printed in the order heading, paragraphs, items, table."""

    heading: str | None
    paragraphs: list[str]
    items: list[str]
    table: Table | None


class Letter(TypedDict):
    """One letter; language decides hyphenation, fixed words and the form of the date.

    salt: random, so that the digest of this record, which stands in the log, cannot be guessed.
    """

    schema: Literal["lethe.letter/1"]
    kind: str
    language: Language
    reference: str
    date: Date
    organisation: Organisation
    recipient: str
    subject: str
    blocks: list[Block]
    salt: str
