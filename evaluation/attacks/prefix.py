"""Extraction by prefix (Carlini et al. 2021): the model goes on with texts it was trained on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evaluation.attacks.again import asked_probes, settings_of
from evaluation.plan import Probe
from evaluation.results import AttackResult
from evaluation.values import kind_of
from language_models.errors import RequestError
from language_models.generation import encode, window_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evaluation.plan import Memory, Plan
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress


def run(
    lm: LanguageModel, plan: Plan, settings: Mapping[str, Any], progress: Progress
) -> AttackResult:
    """Continue the person's texts before each value, and the strangers' at the same places.

    Of both the person's value is looked for; a beginning that leaves no room for an answer is left
    out. Without texts that hold a value nothing is asked, and the details say so.
    """
    chosen = settings_of("prefix", settings)
    if chosen["probes"] < 1:
        raise RequestError("The attack prefix asks at least one probe.")
    window = window_of(lm)

    def fits(text: str) -> bool:
        return window is None or len(encode(lm, text)) + plan.max_new_tokens <= window

    memory = plan.memory
    short = [one for one in memory.beginnings if fits(one[1]) and fits(one[2])]
    # As the other questions: in every way of writing the value that is known.
    expected = {
        one.fact: one.expected
        for one in plan.probes
        if one.group == "leak" and one.form != "reversed"
    }
    fitting = replace(memory, beginnings=tuple(short))
    probes = prefixes(fitting, chosen["probes"], expected)
    details = {"texts": len(memory.own), "beginnings": len(probes) // 2}
    if not probes:
        return AttackResult("prefix", chosen, {}, {**details, "left_out": "no text of the person"})
    return asked_probes("prefix", lm, plan, probes, chosen, progress, details)


def prefixes(memory: Memory, most: int, expected: Mapping[str, tuple[str, ...]]) -> list[Probe]:
    """Return up to `most` probes a group, spread over all texts.

    expected: fact -> the ways of writing its value; of others the value itself is looked for.
    """
    every = memory.beginnings
    probes = []
    for number, (fact, own, other) in enumerate(every[:: -(-len(every) // most) or 1]):
        value = memory.values[fact]
        for group, prompt in (("leak", own), ("control", other)):
            probes.append(
                Probe(
                    f"{group}-{number}", group, None, fact, prompt, expected.get(fact, (value,)),
                    form="prefix", kind=kind_of(fact, value),
                )
            )  # fmt: skip
    return probes
