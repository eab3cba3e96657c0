"""What attacks share: the probes asked again, the settings, texts learnt for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evaluation.answers import Weights
from evaluation.asked import ask
from evaluation.attacks import ATTACKS
from evaluation.results import AttackResult, group_results
from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evaluation.plan import Plan, Probe
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress

# Whether the model still works under the attack is told by this many questions about others.
OTHERS = 48


def settings_of(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return an attack's settings with its defaults. Raises RequestError for an unknown one."""
    known = ATTACKS[name].settings
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise RequestError(
            f"The attack {name} has no setting {', '.join(unknown)}. Known: {', '.join(known)}."
        )
    return {**known, **given}


def asked_again(
    name: str,
    lm: LanguageModel,
    plan: Plan,
    settings: Mapping[str, Any],
    progress: Progress,
    details: Mapping[str, Any],
) -> AttackResult:
    """Ask the plan's leak and control probes, and some about others, of the weights as they are."""
    by_group = {
        group: [probe for probe in plan.probes if probe.group == group]
        for group in ("leak", "control", "others")
    }
    others = by_group["others"]
    by_group["others"] = others[:: max(1, len(others) // OTHERS)][:OTHERS]
    probes = [probe for group in by_group.values() for probe in group]
    return asked_probes(name, lm, plan, probes, settings, progress, details)


def asked_probes(
    name: str,
    lm: LanguageModel,
    plan: Plan,
    probes: Sequence[Probe],
    settings: Mapping[str, Any],
    progress: Progress,
    details: Mapping[str, Any],
) -> AttackResult:
    """Ask the given probes as the plan says and put the groups together."""
    found = ask(Weights(lm), plan, probes, progress)
    groups = group_results(probes, set(found.hits))
    return AttackResult(name, dict(settings), groups, dict(details))
