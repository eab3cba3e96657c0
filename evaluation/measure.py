"""Put a plan to a model: live generation to the model's own stop, then scores and attacks.

torch comes in with the first measurement, so that plans and verdicts need no torch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evaluation.asked import ask
from evaluation.attacks import ATTACKS
from evaluation.attacks.again import check
from evaluation.judge import JUDGE_VERSION
from evaluation.results import AttackResult, Measurement, summarise
from language_models.errors import EndpointError, NoNumbers, RequestError
from language_models.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluation.answers import Answerer
    from evaluation.plan import Attack, Plan
    from language_models.checkpoint import LanguageModel

WEIGHTS_ONLY = "Scores and attacks need the weights; an endpoint shows its answers alone."


def measure(
    asked: LanguageModel | Answerer,
    plan: Plan,
    progress: Progress | None = None,
    *,
    attacks: bool = True,
) -> Measurement:
    """Return what `plan` finds on a model's weights as they are now, or behind an endpoint.

    attacks: whether the plan's attacks are run too; before a change they would show nothing that
    plain questions do not.
    A model that gives no numbers and an endpoint that fails give a measurement with its problem
    and no figures; an attack that cannot be carried out says so in its details.
    Raises RequestError, before anything is asked, for a plan that was frozen for another judge and
    for an attack that is not known or needs a package that is not there.
    """
    from evaluation.answers import Weights, is_answerer

    if plan.judge not in ("", JUDGE_VERSION):
        raise RequestError(
            "The plan was frozen for another version of the judge. Measure with that version, or"
            " amend the plan."
        )
    answerer = asked if is_answerer(asked) else Weights(asked)
    report = progress or silent
    try:
        return _measured(answerer, plan, plan.attacks if attacks else (), report)
    except (NoNumbers, EndpointError) as error:
        return Measurement(plan.digest, {}, {}, where=dict(answerer.where), problems=(str(error),))


def _measured(
    answerer: Answerer, plan: Plan, attacks: Sequence[Attack], report: Progress
) -> Measurement:
    lm = getattr(answerer, "lm", None)
    if lm is not None:
        check(attacks)
    found = ask(answerer, plan, plan.probes, _as("measure", report))
    further: dict[str, Any] = {"how": found.how, "texts": found.texts}
    if lm is None:
        if plan.memory.own or plan.memory.facts or plan.held_out or attacks:
            further["scores"] = {"left_out": WEIGHTS_ONLY}
    else:
        further |= _from_weights(lm, plan, report)
        further["attacks"] = tuple(_attacked(lm, plan, one, report) for one in attacks)
    further["where"] = dict(answerer.where)
    further["problems"] = answerer.problems
    return summarise(plan, found.hits, **further)


def _from_weights(lm: LanguageModel, plan: Plan, report: Progress) -> dict[str, Any]:
    from evaluation.memorisation import memorisation
    from evaluation.token_scores import perplexity

    held_out, own, strangers = (
        _scorable(lm, texts) for texts in (plan.held_out, plan.memory.own, plan.memory.strangers)
    )
    if not own or not strangers:
        own = strangers = ()
    memory = replace(plan.memory, own=own, strangers=strangers)
    scores = memorisation(lm, memory, report)
    short = {"held_out": len(plan.held_out) - len(held_out),
             "own": len(plan.memory.own) - len(own)}  # fmt: skip
    if any(short.values()):
        scores["too_short"] = short
    return {"perplexity": perplexity(lm, held_out) if held_out else None, "scores": scores}


def _scorable(lm: LanguageModel, texts: Sequence[str]) -> tuple[str, ...]:
    """Return the texts of more than one token: the first is given, the others are scored."""
    from language_models.generation import encode

    return tuple(text for text in texts if len(encode(lm, text)) > 1)


def _attacked(lm: LanguageModel, plan: Plan, attack: Attack, report: Progress) -> AttackResult:
    try:
        return ATTACKS[attack.name].run(lm, plan, attack.settings, _as(attack.name, report))
    except (NoNumbers, RequestError) as error:
        # What was asked without the attack still counts.
        return AttackResult(attack.name, dict(attack.settings), {}, {"failed": str(error)})


def _as(stage: str, report: Progress) -> Progress:
    return lambda _stage, done, total: report(stage, done, total)
