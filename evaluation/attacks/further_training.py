"""Further training on other texts: does what was changed hold when the model is tuned again?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evaluation.attacks.again import asked_again, settings_of
from evaluation.attacks.learning import learnt
from evaluation.results import AttackResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evaluation.plan import Plan
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress


def run(
    lm: LanguageModel, plan: Plan, settings: Mapping[str, Any], progress: Progress
) -> AttackResult:
    """Train on the plan's held-out texts, none of which names the person, and ask again."""
    chosen = settings_of("further_training", settings)
    if not plan.held_out:
        return AttackResult("further_training", chosen, {}, {"left_out": "no held-out texts"})
    training = {key: value for key, value in chosen.items() if key != "probes"}
    with learnt(lm, plan.held_out, **training) as how:
        details = {"trained": how, "texts": len(plan.held_out)}
        return asked_again("further_training", lm, plan, chosen, progress, details)
