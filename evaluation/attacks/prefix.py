"""Extraction by prefix (Carlini et al. 2021): the model goes on with texts it was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evaluation.attacks.again import asked_probes, settings_of
from evaluation.plan import Probe
from evaluation.results import AttackResult
from evaluation.values import kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evaluation.plan import Memory, Plan
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress


def run(
    lm: LanguageModel, plan: Plan, settings: Mapping[str, Any], progress: Progress
) -> AttackResult:
    """Continue the person's texts before each value, and the strangers' at the same places.

    Of both the person's value is looked for. Without texts that hold a value nothing is asked, and
    the details say so.
    """
    chosen = settings_of("prefix", settings)
    probes = prefixes(plan.memory, chosen["probes"])
    details = {"texts": len(plan.memory.own), "beginnings": len(probes) // 2}
    if not probes:
        return AttackResult("prefix", chosen, {}, {**details, "left_out": "no text of the person"})
    return asked_probes("prefix", lm, plan, probes, chosen, progress, details)


def prefixes(memory: Memory, most: int) -> list[Probe]:
    """Return up to `most` probes a group, spread over all texts."""
    every = memory.beginnings
    probes = []
    for number, (fact, own, other) in enumerate(every[:: -(-len(every) // most) or 1]):
        value = memory.values[fact]
        for group, prompt in (("leak", own), ("control", other)):
            probes.append(
                Probe(
                    f"{group}-{number}", group, None, fact, prompt, (value,),
                    form="prefix", kind=kind_of(fact, value),
                )
            )  # fmt: skip
    return probes
