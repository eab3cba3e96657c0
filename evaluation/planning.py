"""Build a plan: which probes are put to the model, about whom and in which words."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, cycle, islice, product
from typing import TYPE_CHECKING

from evaluation.asking import OWN, Asking, in_turn, order, stands_in
from evaluation.judge import JUDGE_VERSION
from evaluation.library import Library, shipped
from evaluation.memory_plan import memory_of
from evaluation.neighbours import chosen_others
from evaluation.plan import Attack, GeneralFact, Person, Plan, Probe
from evaluation.plan_checks import check, check_power, given_to
from evaluation.prompts import FORMS, Prompt
from evaluation.twins import twins
from evaluation.values import kind_of, readable
from language_models.positions import fill

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FEW_SHOT_PEOPLE = 12
PLAIN_FORMS = tuple(form for form in FORMS if form != "chat")


@dataclass(frozen=True, kw_only=True)
class Design:
    """What a plan is to be about; `plan` writes every probe down.

    wordings: fact -> prompts with one "{}" for the name. used: wordings, lead-ins and texts that
    the change is given; no probe shares one. leak: facts of the subject whose value must not come
    out, asked for in exactly `leak_probes` probes, half greedy (at most one a prompt), the rest
    sampled at `temperature`, in as many prompts as there are. new_values: fact -> value that must
    come out; given: fact -> wordings of the change in which it is asked for too. keep: facts of
    the subject that must stay.

    language: of the wordings. languages, forms: those of the shipped templates, in which the values
    are asked for in `indirect_probes` more; no languages, no templates; "chat" only for a model
    with a chat template. longest: of such a question in bytes of UTF-8, for a model that reads no
    more. relations: fact -> its name in the templates, where that is another. templates: those that
    are shipped, and with library.read_library a user's own. twins: people who do not exist, asked
    for the same values in `control_probes` and `indirect_controls` probes. own_texts: what was
    trained on about the subject, for the scores of membership. bound: the leak rate that must be
    excluded when nothing comes out.
    """

    subject: Person
    others: Sequence[Person]
    wordings: Mapping[str, Sequence[str]]
    used: Iterable[str]
    leak: Sequence[str] = ()
    new_values: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, Sequence[str]] = field(default_factory=dict)
    keep: Sequence[str] = ()
    general: Sequence[GeneralFact] = ()
    lead_ins: Sequence[str] = ("",)
    language: str = "en"
    languages: Sequence[str] = ()
    forms: Sequence[str] = PLAIN_FORMS
    longest: int | None = None
    relations: Mapping[str, str] = field(default_factory=dict)
    templates: Library = field(default_factory=shipped)
    leak_probes: int = 300
    twins: int = 0
    control_probes: int = 100
    indirect_probes: int = 160
    indirect_controls: int = 80
    other_people: int = 24
    wordings_per_other: int = 2
    max_new_tokens: int = 32
    temperature: float = 1.0
    seed: int = 0
    own_texts: Sequence[str] = ()
    held_out: Sequence[str] = ()
    attacks: Sequence[Attack] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    bound: float | None = None

    @cached_property
    def asking(self) -> Asking:
        """The questions there are."""
        return Asking(
            self.wordings, self.lead_ins, self.language, self.languages, self.forms,
            self.relations, self.subject, self.others[:FEW_SHOT_PEOPLE], self.templates,
        )  # fmt: skip

    @cached_property
    def strangers(self) -> list[Person]:
        """The fictional twins."""
        return twins(self.subject, self.others, self.twins, seed=self.seed) if self.twins else []

    def expected(self, fact: str, asks: str) -> tuple[str, ...]:
        """Return what must not come out: the value as known, or the name as written anywhere."""
        subject = self.subject
        if asks == "name":
            return tuple(dict.fromkeys([subject.name, *subject.names.values()]))
        return (subject.facts[fact], *subject.written.get(fact, ()))


def plan(design: Design) -> Plan:
    """Write the plan of a design. Raises RequestError for one that could not show anything."""
    rng = random.Random(design.seed)  # noqa: S311 -- repeatable choice, not a secret
    check(design)
    probes = [
        *_leaks(design, rng),
        *_new_values(design),
        *_same_person(design),
        *_others(design, rng),
        *_general(design),
    ]
    made = Plan(
        tuple(replace(probe, id=f"p-{n:05}") for n, probe in enumerate(probes, 1)),
        design.max_new_tokens,
        design.temperature,
        design.seed,
        judge=JUDGE_VERSION,
        held_out=tuple(design.held_out),
        memory=memory_of(design),
        attacks=tuple(design.attacks),
        thresholds=dict(design.thresholds),
        bound=design.bound,
    )
    check_power(made)
    return made


def _leaks(design: Design, rng: random.Random) -> list[Probe]:
    """Return the probes of what must not come out and their controls, direct ones first.

    Apart from each other: a model that does not understand a form gives nothing out in it, and
    such answers must not thin out those in the model's own wordings.
    """
    given = given_to(design)
    asked = {fact: design.asking.about(design.subject, fact) for fact in design.leak}
    probes: list[Probe] = []
    for names, own, count, controls in (
        (("leak", "control"), True, design.leak_probes, design.control_probes),
        (("indirect", "indirect_control"), False, design.indirect_probes, design.indirect_controls),
    ):
        places = in_turn(
            [
                [
                    (fact, place)
                    for place in order(asked[fact], rng)
                    if (asked[fact][place].form == OWN) == own
                    and _fits(design, asked[fact][place], given)
                ]
                for fact in design.leak
            ]
        )
        chosen = _decoded(places, count, rng) if places else []
        probes += [
            _asked(design, design.subject, fact, asked[fact][place], names[0], seed)
            for (fact, place), seed in chosen
        ]
        probes += _controls(design, _part(chosen, controls, rng), names[1])
    return probes


def _part(
    chosen: Sequence[tuple[tuple[str, int], int | None]], most: int, rng: random.Random
) -> list[tuple[tuple[str, int], int | None]]:
    """Return up to `most` of the chosen, as large a share of them greedy as of all."""
    count = min(most, len(chosen))
    greedy = [one for one in chosen if one[1] is None]
    sampled = [one for one in chosen if one[1] is not None]
    taken = count * len(greedy) // max(1, len(chosen))
    return [*rng.sample(greedy, taken), *rng.sample(sampled, count - taken)]


def _controls(
    design: Design, chosen: Sequence[tuple[tuple[str, int], int | None]], group: str
) -> list[Probe]:
    """Return the same questions about the twins in turn."""
    if not design.strangers:
        return []
    asked = {
        (twin.id, fact): design.asking.about(twin, fact)
        for twin in design.strangers
        for fact in design.leak
    }
    probes = []
    for number, ((fact, place), seed) in enumerate(chosen):
        twin = design.strangers[number % len(design.strangers)]
        probes.append(_asked(design, twin, fact, asked[twin.id, fact][place], group, seed))
    return probes


def _fits(design: Design, asked: Prompt, given: Sequence[str]) -> bool:
    """Whether a template may be put: it is none that the change was given, and not too long."""
    if asked.form == OWN:
        return True
    # A token stands for a byte at least; each earlier turn is answered in between.
    size = sum(len(turn.encode()) for turn in asked.turns)
    size += (len(asked.turns) - 1) * design.max_new_tokens
    return (design.longest is None or size <= design.longest) and not stands_in(asked.turns, given)


def _decoded(
    places: Sequence[tuple[str, int]], count: int, rng: random.Random
) -> list[tuple[tuple[str, int], int | None]]:
    """Return `count` places with a seed each, None for greedy: half of them, never twice.

    Several draws from one prompt say less than as many prompts, so a prompt comes again only
    when all have come.
    """
    first = list(places[:count])
    greedy = set(rng.sample(range(len(first)), min(len(first), count // 2)))
    waiting = [place for n, place in enumerate(first) if n not in greedy]
    drawn = islice(chain(waiting, cycle(places)), count - len(greedy))
    sampled = [(place, rng.getrandbits(48)) for place in drawn]
    return [*((first[n], None) for n in sorted(greedy)), *sampled]


def _asked(
    design: Design, person: Person, fact: str, asked: Prompt, group: str, seed: int | None
) -> Probe:
    expected = design.expected(fact, asked.asks)
    *earlier, prompt = asked.turns
    return Probe(
        "", group, person.id, fact, prompt, expected,
        decode="greedy" if seed is None else "sampled",
        seed=seed or 0,
        form=asked.form,
        language=asked.language,
        kind="name" if asked.asks == "name" else kind_of(fact, expected[0]),
        earlier=tuple(earlier),
        chat=asked.chat,
    )  # fmt: skip


def _new_values(design: Design) -> list[Probe]:
    """Return the probes of the new values, in the wordings of the change and in others."""
    probes = []
    for fact, value in design.new_values.items():
        probes += [
            _plain(design, design.subject, "reliability", fact, wording, value)
            for wording in design.given.get(fact, ())
        ]
        probes += [
            _plain(design, design.subject, "new_value", fact, lead_in + wording, value)
            for wording, lead_in in product(design.wordings[fact], design.lead_ins)
        ]
    return probes


def _same_person(design: Design) -> list[Probe]:
    return [
        probe
        for fact in design.keep
        for probe in _about(design, design.subject, "same_person", fact, design.wordings[fact],
                            design.lead_ins)
    ]  # fmt: skip


def _others(design: Design, rng: random.Random) -> list[Probe]:
    wordings, probes = design.wordings, []
    for neighbour, other in chosen_others(design.subject, design.others, design.other_people, rng):
        for fact in sorted(other.facts.keys() & wordings.keys()):
            if not readable(other.facts[fact]):
                continue
            count = min(design.wordings_per_other, len(wordings[fact]))
            chosen = rng.sample(list(wordings[fact]), count)
            lead_in = rng.choice(list(design.lead_ins))
            about = _about(design, other, "others", fact, chosen, [lead_in])
            probes += [replace(probe, neighbour=neighbour) for probe in about]
    return probes


def _general(design: Design) -> list[Probe]:
    return [
        Probe("", "general", None, "general", one.prompt, (one.answer,)) for one in design.general
    ]


def _about(
    design: Design, person: Person, group: str, fact: str,
    wordings: Sequence[str], lead_ins: Sequence[str],
) -> list[Probe]:  # fmt: skip
    """Return one probe per wording, the lead-ins in turn."""
    turns = zip(wordings, cycle(lead_ins), strict=False)
    return [
        _plain(design, person, group, fact, lead_in + wording, person.facts[fact])
        for wording, lead_in in turns
    ]


def _plain(
    design: Design, person: Person, group: str, fact: str, wording: str, value: str
) -> Probe:
    # The number is given when all probes are known.
    return Probe(
        "", group, person.id, fact, fill(wording, person.name), (value,),
        form=OWN, language=design.language, kind=kind_of(fact, value),
    )  # fmt: skip
