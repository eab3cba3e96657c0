"""What a measurement found, per group, with exact bounds; no generated text is kept."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from evaluation.bounds import clopper_pearson_lower, clopper_pearson_upper
from evaluation.plan import GROUPS, Plan, Probe
from evaluation.risk import clustered_upper, corrected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


@dataclass(frozen=True)
class FactResult:
    """Probes and hits of one fact, or one form, within a group.

    lower, upper: one-sided bounds on the rate of its prompts; those of all facts, or all forms, of
    one side hold together with 95 %.
    """

    n: int
    hits: int
    upper: float = 1.0
    lower: float = 0.0

    @property
    def rate(self) -> float:
        """The share of hits."""
        return self.hits / self.n


@dataclass(frozen=True)
class Cell:
    """Probes and hits of a part of a group, with one-sided bounds at 95 % each."""

    n: int
    hits: int
    lower_95: float
    upper_95: float


@dataclass(frozen=True)
class GroupResult:
    """Probes and hits of a group; the bounds are one-sided at 95 %, for the rate of hits.

    prompts counts distinct prompts, prompts_hit those with at least one hit: several draws from
    one prompt say less about other prompts than as many prompts would, so upper_by_prompt bounds
    the rate with each prompt counted once, by the share of its answers that are hits; shares is the
    sum of these, 0 in results of earlier versions. forms: form -> language -> part. by_form: forms
    as wholes. neighbours: class of other people -> part.
    """

    n: int
    hits: int
    rate: float
    lower_95: float
    upper_95: float
    prompts: int
    prompts_hit: int
    facts: Mapping[str, FactResult]
    upper_by_prompt: float = 1.0
    forms: Mapping[str, Mapping[str, Cell]] = field(default_factory=dict)
    neighbours: Mapping[str, Cell] = field(default_factory=dict)
    shares: float = 0.0
    by_form: Mapping[str, FactResult] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> GroupResult:
        """Return the group that `asdict` wrote."""
        forms = {
            form: {language: Cell(**cell) for language, cell in row.items()}
            for form, row in stored.get("forms", {}).items()
        }
        parts = {
            "facts": {fact: FactResult(**row) for fact, row in stored["facts"].items()},
            "by_form": {k: FactResult(**row) for k, row in stored.get("by_form", {}).items()},
            "forms": forms,
            "neighbours": {k: Cell(**cell) for k, cell in stored.get("neighbours", {}).items()},
        }
        return cls(**{**stored, **parts})


@dataclass(frozen=True)
class Texts:
    """How many answers there were, how many were empty and how many never came to an end.

    empty_by_group, endless_by_group: group of probes -> those of its answers.
    """

    answers: int = 0
    empty: int = 0
    endless: int = 0
    empty_by_group: Mapping[str, int] = field(default_factory=dict)
    endless_by_group: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Texts) -> Texts:
        """Return the counts over the answers of both."""
        return Texts(
            self.answers + other.answers,
            self.empty + other.empty,
            self.endless + other.endless,
            dict(Counter(self.empty_by_group) + Counter(other.empty_by_group)),
            dict(Counter(self.endless_by_group) + Counter(other.endless_by_group)),
        )


@dataclass(frozen=True)
class AttackResult:
    """What an attack brought out: the leak and control groups under it, and its own figures.

    texts: counts over the answers under it.
    """

    name: str
    settings: Mapping[str, Any]
    groups: Mapping[str, GroupResult] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    texts: Texts = field(default_factory=Texts)

    @property
    def title(self) -> str:
        """The name with what tells two runs of it apart."""
        bits = self.settings.get("bits")
        return f"{self.name}, {bits} bits" if bits else self.name

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> AttackResult:
        """Return the result that `asdict` wrote."""
        texts = Texts(**stored.get("texts", {}))
        return cls(**{**stored, "groups": _groups(stored["groups"]), "texts": texts})


@dataclass(frozen=True)
class Measurement:
    """The result of one plan on one model version.

    hit_probes: group -> ids of its hits. where: what was asked, weights or an endpoint. how:
    exact, fuzzy, partial -> hits of all groups found so. scores: memorisation, see memorisation.py.
    problems: why the figures cannot be relied on; with any, no verdict is a pass.
    """

    plan_digest: str
    groups: Mapping[str, GroupResult]
    hit_probes: Mapping[str, tuple[str, ...]]
    where: Mapping[str, str] = field(default_factory=dict)
    how: Mapping[str, int] = field(default_factory=dict)
    texts: Texts = field(default_factory=Texts)
    perplexity: float | None = None
    scores: Mapping[str, Any] = field(default_factory=dict)
    attacks: tuple[AttackResult, ...] = ()
    problems: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values: figures, probe numbers and the plan's digest, by which a guess of the
        plan could be tested; no names and no texts.
        """
        hits = {name: list(ids) for name, ids in self.hit_probes.items()}
        return {**asdict(self), "hit_probes": hits}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Measurement:
        """Return the measurement that `as_dict` wrote."""
        parts = {
            "groups": _groups(stored["groups"]),
            "hit_probes": {name: tuple(ids) for name, ids in stored["hit_probes"].items()},
            "texts": Texts(**stored.get("texts", {})),
            "attacks": tuple(AttackResult.from_dict(row) for row in stored.get("attacks", ())),
            "problems": tuple(stored.get("problems", ())),
        }
        return cls(**{**stored, **parts})


def _groups(stored: Mapping[str, Any]) -> dict[str, GroupResult]:
    return {name: GroupResult.from_dict(group) for name, group in stored.items()}


def summarise(plan: Plan, hit_probes: Iterable[str], **further: Any) -> Measurement:
    """Count hits per group, fact, form and neighbour; `further` are fields of the measurement."""
    hits = set(hit_probes)
    ids = {
        name: tuple(one.id for one in plan.probes if one.group == name and one.id in hits)
        for name in GROUPS
        if any(one.group == name for one in plan.probes)
    }
    return Measurement(plan.digest, group_results(plan.probes, hits), ids, **further)


def group_results(probes: Iterable[Probe], hits: set[str]) -> dict[str, GroupResult]:
    """Return the groups that have probes, in the order of GROUPS."""
    found: defaultdict[str, list[Probe]] = defaultdict(list)
    for probe in probes:
        found[probe.group].append(probe)
    return {name: _group(found[name], hits) for name in GROUPS if name in found}


def _group(probes: list[Probe], hits: set[str]) -> GroupResult:
    n, count = len(probes), sum(probe.id in hits for probe in probes)
    prompts = _by_prompt(probes, hits)
    counted = clustered_upper(prompts)
    languages = {form: [one for one in probes if one.form == form] for form in _seen(probes)}
    return GroupResult(
        n=n,
        hits=count,
        rate=count / n,
        lower_95=clopper_pearson_lower(count, n),
        upper_95=clopper_pearson_upper(count, n),
        prompts=len(prompts),
        prompts_hit=sum(any(answers) for answers in prompts.values()),
        facts=_parts(probes, hits, lambda one: one.fact),
        upper_by_prompt=counted.upper,
        forms={
            form: _cells(own, hits, lambda one: one.language) for form, own in languages.items()
        },
        neighbours=_cells(probes, hits, lambda one: one.neighbour),
        shares=counted.shares,
        by_form=_parts(probes, hits, lambda one: one.form),
    )


def _seen(probes: list[Probe]) -> list[str]:
    return list(dict.fromkeys(probe.form for probe in probes))


def _by_prompt(probes: list[Probe], hits: set[str]) -> dict[object, list[bool]]:
    prompts: defaultdict[object, list[bool]] = defaultdict(list)
    for probe in probes:
        prompts[probe.turns].append(probe.id in hits)
    return dict(prompts)


def _parts(
    probes: list[Probe], hits: set[str], key: Callable[[Probe], str]
) -> dict[str, FactResult]:
    """Return a part for each key, with bounds that hold together."""
    keys = sorted({key(probe) for probe in probes})
    together = corrected(0.95, len(keys))
    return {
        name: _part([one for one in probes if key(one) == name], hits, together) for name in keys
    }


def _part(probes: list[Probe], hits: set[str], confidence: float) -> FactResult:
    found = clustered_upper(_by_prompt(probes, hits), confidence)
    lower = clopper_pearson_lower(found.shares, found.prompts, confidence)
    return FactResult(len(probes), sum(one.id in hits for one in probes), found.upper, lower)


def _cells(probes: list[Probe], hits: set[str], key: Callable[[Probe], str]) -> dict[str, Cell]:
    """Return a part for each key; none for the empty key."""
    every = Counter(key(probe) for probe in probes)
    found = Counter(key(probe) for probe in probes if probe.id in hits)
    return {name: cell(n, found[name]) for name, n in every.items() if name}


def cell(n: int, hits: int) -> Cell:
    """Return a part with its bounds."""
    return Cell(n, hits, clopper_pearson_lower(hits, n), clopper_pearson_upper(hits, n))
