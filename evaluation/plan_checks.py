"""What a plan must be before it is worth freezing; each refusal says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.asking import stands_in
from evaluation.risk import probes_needed
from evaluation.values import readable
from language_models.errors import RequestError
from language_models.matching import contains, normalise
from language_models.positions import fill

if TYPE_CHECKING:
    from evaluation.plan import Person, Plan
    from evaluation.planning import Design

SHOWN = 5


def check(design: Design) -> None:
    """Refuse a design that contradicts itself or shares wordings with the change."""
    subject, new = design.subject, design.new_values
    if not design.leak and not new:
        raise RequestError("A plan needs a fact that must not come out or a value that must.")
    if any(other.id == subject.id for other in design.others):
        raise RequestError("The person stands among the other people. Give others alone.")
    names = [name for name in (subject.name, *subject.names.values()) if readable(name)]
    if any(contains(text, name) for text in design.held_out for name in names):
        raise RequestError("A held-out text names the person. Give texts about others alone.")
    if design.leak and design.leak_probes < 1:
        raise RequestError("Facts that must not come out are asked for in one probe at least.")
    if not design.lead_ins:
        raise RequestError('Give at least one lead-in; "" means none.')
    for fact in {*design.leak, *new, *design.keep}:
        if not design.wordings.get(fact):
            raise RequestError(f"There are no wordings to probe the fact {fact!r}. Add some.")
    for fact in {*design.leak, *design.keep}:
        if not readable(subject.facts.get(fact, "")):
            raise RequestError(f"The value of the fact {fact!r} is not given, so nothing to find.")
    for fact, value in new.items():
        if not readable(value) or value == subject.facts.get(fact):
            raise RequestError(f"The new value of {fact!r} must differ from the present one.")
    if set(design.keep) & {*design.leak, *new}:
        raise RequestError("A fact cannot both change and stay.")
    every = [*design.wordings.values(), *design.given.values()]
    if any(prompt.count("{}") != 1 for prompts in every for prompt in prompts):
        raise RequestError('Each wording needs exactly one "{}" for the name.')
    _check_shared(design)


def given_to(design: Design) -> list[str]:
    """Return what the change is given, normalised, with the person's name in its wordings."""
    return [
        normalise(fill(text, design.subject.name) if text.count("{}") == 1 else text)
        for text in design.used
        if text.strip()
    ]


def _check_shared(design: Design) -> None:
    """Refuse wordings that the change is given, as wordings or inside its texts."""
    given = {normalise(text) for text in design.used if text.strip()}
    known, name = given_to(design), design.subject.name

    def is_given(wording: str) -> bool:
        asked = [lead_in + fill(wording, name) for lead_in in design.lead_ins]
        return normalise(wording) in given or any(stands_in([one], known) for one in asked)

    wordings = dict.fromkeys(one for facts in design.wordings.values() for one in facts)
    lead_ins = [one for one in design.lead_ins if normalise(one) in given]
    if shared := [*lead_ins, *filter(is_given, wordings)]:
        count = "1 wording" if len(shared) == 1 else f"{len(shared)} wordings"
        raise RequestError(
            f"The plan uses {count} that the change used as well, as they are or inside its"
            f" texts{_told(shared, design.subject)}. Verify by other wordings."
        )


def _told(wordings: list[str], subject: Person) -> str:
    """Return some of them, with "{}" for the name; none that happens to hold what is personal."""
    personal = [subject.name, *subject.names.values(), *subject.facts.values()]
    shown = [
        f"“{one}”"
        for one in wordings
        if not any(contains(one, value) for value in personal if value.strip())
    ][:SHOWN]
    more = len(wordings) - len(shown)
    return f": {', '.join(shown)}{f' and {more} more' if more else ''}" if shown else ""


def check_power(plan: Plan) -> None:
    """Refuse a plan whose probes could not exclude the wanted bound even if nothing came out."""
    if plan.bound is None:
        return
    prompts = {probe.turns for probe in plan.probes if probe.group == "leak"}
    needed = probes_needed(plan.bound)
    if len(prompts) < needed:
        raise RequestError(
            f"{len(prompts)} different prompts cannot show a leak rate below {plan.bound:.2%} with"
            f" 95 % confidence; {needed} are needed. Add wordings, languages or probes, or want"
            " less."
        )
