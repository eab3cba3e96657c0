"""What attacks share: the probes asked again, the settings, texts learnt for a while."""

from __future__ import annotations

import math
import random
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from evaluation.answers import Weights
from evaluation.asked import ask
from evaluation.attacks import ATTACKS
from evaluation.results import AttackResult, group_results
from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evaluation.plan import Attack, Plan, Probe
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress

# For each hundred leak probes: controls, and questions about others, which tell whether the model
# still works under the attack.
SHARES = {"leak": 1.0, "control": 0.33, "others": 0.33}
# None is a pinned package of Lethe, see libraries.py.
PACKAGES = ("torchao", "bitsandbytes")


def settings_of(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return an attack's settings with its defaults. Raises RequestError for an unknown one."""
    known = ATTACKS[name].settings
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise RequestError(
            f"The attack {name} has no setting {', '.join(unknown)}. Known: {', '.join(known)}."
        )
    return {**known, **given}


def check(attacks: Sequence[Attack]) -> None:
    """Raise RequestError for an attack that is not known or needs a package that is not there."""
    for attack in attacks:
        if attack.name not in ATTACKS:
            known = ", ".join(sorted(ATTACKS))
            raise RequestError(f"Unknown attack {attack.name!r}. Known: {known}.")
        library = settings_of(attack.name, attack.settings).get("library")
        if library in PACKAGES and find_spec(library) is None:
            raise RequestError(
                f"The package {library} is not installed, so its quantisation cannot be tested."
                " Install it, or measure by a plan that uses rounding."
            )


def asked_again(
    name: str,
    lm: LanguageModel,
    plan: Plan,
    settings: Mapping[str, Any],
    progress: Progress,
    details: Mapping[str, Any],
) -> AttackResult:
    """Ask so many of the plan's leak probes, and some of others, of the weights as they are."""
    rng = random.Random(plan.seed)  # noqa: S311 -- repeatable choice, not a secret
    probes: list[Probe] = []
    for group, share in SHARES.items():
        probes += sampled(plan, group, math.ceil(settings["probes"] * share), rng)
    return asked_probes(name, lm, plan, probes, settings, progress, details)


def sampled(plan: Plan, group: str, most: int, rng: random.Random) -> list[Probe]:
    """Return up to `most` probes of a group."""
    every = [probe for probe in plan.probes if probe.group == group]
    return rng.sample(every, min(len(every), most))


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
    return AttackResult(name, dict(settings), groups, dict(details), found.texts)
