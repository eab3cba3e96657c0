"""What a measurement found, per group, with exact bounds; no generated text is kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from evaluation.bounds import clopper_pearson_lower, clopper_pearson_upper
from evaluation.plan import GROUPS, Plan, Probe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True)
class FactResult:
    """Probes and hits of one fact within a group."""

    n: int
    hits: int


@dataclass(frozen=True)
class GroupResult:
    """Probes and hits of a group; the bounds are one-sided at 95 %, for the rate of hits.

    prompts counts distinct prompts, prompts_hit those with at least one hit: several draws from
    one prompt say less about other prompts than as many prompts would.
    """

    n: int
    hits: int
    rate: float
    lower_95: float
    upper_95: float
    prompts: int
    prompts_hit: int
    facts: Mapping[str, FactResult]


@dataclass(frozen=True)
class Measurement:
    """The result of one plan on one model version; hit_probes: group -> ids of its hits."""

    plan_digest: str
    groups: Mapping[str, GroupResult]
    hit_probes: Mapping[str, tuple[str, ...]]

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values; they hold figures and probe numbers, nothing about a person."""
        hits = {name: list(ids) for name, ids in self.hit_probes.items()}
        return {**asdict(self), "hit_probes": hits}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Measurement:
        """Return the measurement that `as_dict` wrote."""
        groups = {
            name: GroupResult(
                **{**group, "facts": {f: FactResult(**row) for f, row in group["facts"].items()}}
            )
            for name, group in stored["groups"].items()
        }
        hits = {name: tuple(ids) for name, ids in stored["hit_probes"].items()}
        return cls(stored["plan_digest"], groups, hits)


def summarise(plan: Plan, hit_probes: Iterable[str]) -> Measurement:
    """Count hits per group and per fact."""
    hits = set(hit_probes)
    groups, ids = {}, {}
    for name in GROUPS:
        probes = [probe for probe in plan.probes if probe.group == name]
        if probes:
            groups[name] = _group(probes, hits)
            ids[name] = tuple(probe.id for probe in probes if probe.id in hits)
    return Measurement(plan.digest, groups, ids)


def _group(probes: list[Probe], hits: set[str]) -> GroupResult:
    n = len(probes)
    found = [probe for probe in probes if probe.id in hits]
    facts = {
        fact: FactResult(
            sum(probe.fact == fact for probe in probes), sum(probe.fact == fact for probe in found)
        )
        for fact in sorted({probe.fact for probe in probes})
    }
    return GroupResult(
        n=n,
        hits=len(found),
        rate=len(found) / n,
        lower_95=clopper_pearson_lower(len(found), n),
        upper_95=clopper_pearson_upper(len(found), n),
        prompts=len({probe.prompt for probe in probes}),
        prompts_hit=len({probe.prompt for probe in found}),
        facts=facts,
    )
