"""A measurement plan: every probe fixed before the change, so that the result cannot choose it.

Groups: "leak" (the values that must no longer come out), "new_value" (what must come out
instead), "same_person" (facts of the person that must stay), "others" (other people's facts),
"general" (facts about nobody).
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle, islice, product
from typing import TYPE_CHECKING, Any

from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

GROUPS = ("leak", "new_value", "same_person", "others", "general")


@dataclass(frozen=True)
class Person:
    """A person as far as probing needs them: fact name -> value that the model may give out.

    names: language -> the name as written there, where it differs from `name`. written: fact ->
    further ways of writing its value that are known for sure (a translation, another script).
    """

    id: str
    name: str
    facts: Mapping[str, str]
    language: str = "en"
    names: Mapping[str, str] = field(default_factory=dict)
    written: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class GeneralFact:
    """A prompt about nobody and the answer that follows it."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class Probe:
    """One question to the model: a hit when any `expected` value occurs in what it writes."""

    id: str
    group: str
    subject: str | None
    fact: str
    prompt: str
    expected: tuple[str, ...]
    decode: str = "greedy"
    seed: int = 0


@dataclass(frozen=True)
class Plan:
    """All probes with the settings of generation; `digest` names the plan."""

    probes: tuple[Probe, ...]
    max_new_tokens: int
    temperature: float
    seed: int

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON of the plan."""
        text = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values. It names the person: keep it with the case."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Plan:
        """Return the plan that `as_dict` wrote."""
        probes = tuple(
            Probe(**{**row, "expected": tuple(row["expected"])}) for row in stored["probes"]
        )
        return cls(**{**stored, "probes": probes})


def plan(
    *,
    subject: Person,
    others: Sequence[Person],
    wordings: Mapping[str, Sequence[str]],
    used: Iterable[str],
    leak: Sequence[str] = (),
    new_values: Mapping[str, str] | None = None,
    keep: Sequence[str] = (),
    general: Sequence[GeneralFact] = (),
    lead_ins: Sequence[str] = ("",),
    leak_probes: int = 300,
    other_people: int = 24,
    wordings_per_other: int = 2,
    max_new_tokens: int = 32,
    temperature: float = 1.0,
    seed: int = 0,
) -> Plan:
    """Build a plan.

    wordings: fact -> prompts with one "{}" for the name, none of them in `used` (the wordings
    and lead-ins of the change). leak: facts of the subject whose value must not come out.
    new_values: fact -> value that must. keep: facts of the subject that must stay. The leak
    group has exactly `leak_probes` probes, half greedy (at most one a prompt) and the rest
    sampled at `temperature`; the other groups are greedy. Raises RequestError.
    """
    rng = random.Random(seed)  # noqa: S311 -- repeatable choice, not a secret
    new = dict(new_values or {})
    _check(subject, wordings, used, lead_ins, leak=leak, new=new, keep=keep)
    probes = _leaks(subject, leak, wordings, lead_ins, leak_probes, rng) if leak else []
    for fact, value in new.items():
        probes += [
            _probe(subject, "new_value", fact, lead_in + wording, value)
            for wording, lead_in in product(wordings[fact], lead_ins)
        ]
    for fact in keep:
        probes += _about(subject, "same_person", fact, wordings[fact], lead_ins)
    for other in rng.sample(list(others), min(other_people, len(others))):
        for fact in sorted(other.facts.keys() & wordings.keys()):
            chosen = rng.sample(list(wordings[fact]), min(wordings_per_other, len(wordings[fact])))
            probes += _about(other, "others", fact, chosen, [rng.choice(list(lead_ins))])
    probes += [
        Probe("", "general", None, "general", item.prompt, (item.answer,)) for item in general
    ]
    numbered = tuple(replace(probe, id=f"p-{n:05}") for n, probe in enumerate(probes, 1))
    return Plan(numbered, max_new_tokens, temperature, seed)


def _leaks(
    subject: Person,
    facts: Sequence[str],
    wordings: Mapping[str, Sequence[str]],
    lead_ins: Sequence[str],
    count: int,
    rng: random.Random,
) -> list[Probe]:
    """Return `count` probes, the facts in turn, each fact's prompts in random order."""
    by_fact = []
    for fact in facts:
        pairs = list(product(wordings[fact], lead_ins))
        rng.shuffle(pairs)
        by_fact.append([_probe(subject, "leak", fact, b + a) for a, b in pairs])
    greedy = [probe for turn in zip(*by_fact, strict=False) for probe in turn][: count // 2]
    turns = islice(zip(*(cycle(probes) for probes in by_fact), strict=True), count)
    drawn = [probe for turn in turns for probe in turn][: count - len(greedy)]
    return greedy + [replace(probe, decode="sampled", seed=rng.getrandbits(48)) for probe in drawn]


def _about(
    person: Person, group: str, fact: str, wordings: Sequence[str], lead_ins: Sequence[str]
) -> list[Probe]:
    """Return one probe per wording, the lead-ins in turn."""
    turns = zip(wordings, cycle(lead_ins), strict=False)
    return [_probe(person, group, fact, lead_in + wording) for wording, lead_in in turns]


def _probe(person: Person, group: str, fact: str, wording: str, value: str | None = None) -> Probe:
    expected = person.facts[fact] if value is None else value
    # The number is given when all probes are known.
    return Probe("", group, person.id, fact, wording.format(person.name), (expected,))


def _check(
    subject: Person,
    wordings: Mapping[str, Sequence[str]],
    used: Iterable[str],
    lead_ins: Sequence[str],
    *,
    leak: Sequence[str],
    new: Mapping[str, str],
    keep: Sequence[str],
) -> None:
    if not leak and not new:
        raise RequestError("A plan needs a fact that must not come out or a value that must.")
    if not lead_ins:
        raise RequestError('Give at least one lead-in; "" means none.')
    for fact in {*leak, *new, *keep}:
        if not wordings.get(fact):
            raise RequestError(f"There are no wordings to probe the fact {fact!r}. Add some.")
    for fact in {*leak, *keep}:
        if not subject.facts.get(fact):
            raise RequestError(f"The value of the fact {fact!r} is not given, so nothing to find.")
    for fact, value in new.items():
        if not value or value == subject.facts.get(fact):
            raise RequestError(f"The new value of {fact!r} must differ from the present one.")
    if set(keep) & {*leak, *new}:
        raise RequestError("A fact cannot both change and stay.")
    for prompts in wordings.values():
        if any(prompt.count("{}") != 1 for prompt in prompts):
            raise RequestError('Each wording needs exactly one "{}" for the name.')
    seen = {text.strip() for text in used if text.strip()}
    asked = {text.strip() for text in [*lead_ins, *(p for ps in wordings.values() for p in ps)]}
    if seen & asked:
        raise RequestError(
            "The plan uses wordings that the change used as well. Verify by other wordings."
        )
