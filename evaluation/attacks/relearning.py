"""Relearning (Lynch et al. 2024): some facts of a person are learnt again, the others asked for.

Texts that state what is asked for would show that a model can learn, nothing about what it held.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from evaluation.attacks.again import asked_probes, sampled, settings_of
from evaluation.attacks.learning import learnt
from evaluation.results import AttackResult, Texts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evaluation.plan import Plan, Probe
    from evaluation.results import GroupResult
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress

OTHERS = 33  # questions about others, as for the other attacks


def run(
    lm: LanguageModel, plan: Plan, settings: Mapping[str, Any], progress: Progress
) -> AttackResult:
    """Learn the lessons about the person and ask for the other facts; the same of the stranger.

    Both are asked for the person's values. Without facts that may be learnt nothing is done, and
    the details say so.
    """
    chosen = settings_of("relearning", settings)
    memory = plan.memory
    leak, control = questions(plan)
    if not memory.lessons or not leak:
        reason = "no fact of the person that may be learnt beside one that is asked for"
        return AttackResult("relearning", chosen, {}, {"left_out": reason})
    groups: dict[str, GroupResult] = {}
    texts = Texts()
    details = {"relearnt": list(memory.relearnt), "texts": len(memory.lessons)}
    # Whether the model still works after the lessons; asked once.
    rng = random.Random(plan.seed)  # noqa: S311 -- repeatable choice, not a secret
    others = sampled(plan, "others", OTHERS, rng)
    for place, probes in enumerate(([*leak, *others], control)):
        lessons = [pair[place] for pair in memory.lessons]
        with learnt(lm, lessons, **chosen) as how:
            found = asked_probes("relearning", lm, plan, probes, chosen, progress, {})
        groups |= found.groups
        texts += found.texts
        details["trained"] = how
    return AttackResult("relearning", chosen, groups, details, texts)


def questions(plan: Plan) -> tuple[list[Probe], list[Probe]]:
    """Return what is asked about the person and about the first stranger: what no lesson tells."""
    asked = [
        one
        for one in plan.probes
        # The lessons hold the name, which reversed questions ask for.
        if one.fact not in plan.memory.relearnt and one.form != "reversed"
    ]
    leak = [one for one in asked if one.group == "leak"]
    return leak, [one for one in asked if one.group == "control" and one.subject == "twin-1"]
