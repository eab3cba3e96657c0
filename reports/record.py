"""Shape of the two records that are rendered: the evidence of one case, and one letter.

The classes are the schema: `reports.evidence` checks a record against these annotations. All
times are ISO 8601 with an offset, all digests SHA-256 in lower-case hexadecimal, all rates
fractions of 1. A new field, or a new meaning of an old one, needs a new schema name.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

# Their hints are read at run time.
from reports.fields import Count, Date, Digest, Rate, Time  # noqa: TC001
from reports.figures import Verification

REPORT_SCHEMA = "lethe.report/3"
LETTER_SCHEMA = "lethe.letter/1"

REPORT_FILE = "evidence.json"
LETTER_FILE = "letter.json"
PROOF_FILE = "log.tlog-proof"

Outcome = Literal["fulfilled", "partly_fulfilled", "refused", "withdrawn", "nothing_found"]
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

    schema: Literal["lethe.report/3"]
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
