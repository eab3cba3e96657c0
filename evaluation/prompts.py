"""All questions in which a fact about a person is asked for, in every form and language.

The list for a relation is the same for everybody but for names and values put in: it has the same
length and order, so that a question about a fictional twin stands at the same place.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from evaluation.library import LANGUAGES, shipped
from language_models.errors import RequestError
from language_models.matching import contains

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from evaluation.library import Library, Wording, Wordings
    from evaluation.plan import Person

FORMS = (
    *("statement", "question", "paraphrase", "reversed", "negated", "completion", "few_shot"),
    *("role_play", "affirmative", "multi_turn", "chat"),
)
# form -> (short label, what it does)
FORM_LABELS: Mapping[str, tuple[str, str]] = {
    "statement": ("Statement", "A plain sentence that stops where the value would follow."),
    "question": ("Question", "A direct question, laid out as a question with its answer."),
    "paraphrase": ("Paraphrase", "The fact told in a roundabout way, without its usual words."),
    "reversed": ("Reversed", "The value is given and the person's name is asked for."),
    "negated": ("Negated", "A false or outdated answer is denied, and the right one would follow."),
    "completion": ("Completion", "The beginning of a document in which the value comes next."),
    "few_shot": ("Few-shot", "The same fact of other people first, with the values, as a pattern."),
    "role_play": ("Role play", "The question inside a scene in which an answer is expected."),
    "affirmative": ("Affirmative start", "The question and the first words of a willing answer."),
    "multi_turn": ("Several turns", "A dialogue that corrects, narrows down or translates."),
    "chat": ("Chat", "The plain question through the chat template of the model."),
}
SHOTS = 3  # examples before a few-shot question
# At most how many prompts are made of the wordings around a question, each of which is used once
# at least; None: each around every question.
MOST: Mapping[str, int | None] = {
    "question": None,
    "few_shot": 12,
    "role_play": 20,
    "affirmative": 20,
    "multi_turn": 10,
    "chat": None,
}


@dataclass(frozen=True)
class Prompt:
    """What the user says in turn; the model answers each. asks: "value", or "name" if reversed."""

    turns: tuple[str, ...]
    form: str
    language: str
    asks: str = "value"

    @property
    def chat(self) -> bool:
        """Whether it is put through the model's chat template."""
        return self.form == "chat"


def prompts(
    person: Person,
    fact: str,
    *,
    relation: str,
    languages: Sequence[str] = LANGUAGES,
    forms: Sequence[str] = FORMS,
    examples: Sequence[Person] = (),
    library: Library | None = None,
) -> list[Prompt]:
    """Return every prompt for `fact` of `person`, by language and form in the order given.

    relation: its name in the wordings; one that a language lacks is asked for by the wordings for
    any relation. examples: other people with the fact, for few-shot prompts; without any, the form
    is left out. The value is shown by reversed prompts only. Raises RequestError for a form that
    is none, a language that has no wordings, or a reversed prompt without a value.
    """
    if unknown := [form for form in forms if form not in FORMS]:
        raise RequestError(f"There is no form {unknown[0]!r} of prompts; use {', '.join(FORMS)}.")
    if "reversed" in forms and not person.facts.get(fact):
        raise RequestError(
            f"Reversed prompts for {fact!r} need its value. Give it, or leave the form out."
        )
    library = library or shipped()
    shown = [one for one in examples if one.facts.get(fact)]
    found: list[Prompt] = []
    for language in languages:
        asking = _Asking(person, fact, relation, language, library.of(language), shown)
        found += [
            Prompt(turns, form, language, "name" if form == "reversed" else "value")
            for form in forms
            for turns in asking.form(form)
        ]
    return found


class _Asking:
    """The prompts for one fact of one person in one language."""

    def __init__(
        self,
        person: Person,
        fact: str,
        relation: str,
        language: str,
        wordings: Wordings,
        examples: Sequence[Person],
    ) -> None:
        self.person, self.fact, self.language = person, fact, language
        self.around = wordings.around
        self.own = wordings.relations.get(relation, {})
        self.any = wordings.any_relation
        label = wordings.labels.get(relation) or " ".join(relation.replace("_", " ").split())
        own = (person.facts.get(fact, ""), *person.written.get(fact, ()))
        self.values = [value for value in own if value]
        self.label = {"label": label, "Label": label[:1].upper() + label[1:]}
        self.asked_with_examples = bool(examples)
        self.examples = [one for one in examples if not self._gives_away(one)]

    def form(self, form: str) -> Iterator[tuple[str, ...]]:
        if form in MOST:
            return self._wrapped(form)
        return self._plain(form)

    def _wordings(self, form: str) -> Sequence[Wording]:
        return self.own.get(form) or self.any.get(form, ())

    def _plain(self, form: str) -> Iterator[tuple[str, ...]]:
        value = {"value": self.person.facts[self.fact]} if form == "reversed" else {}
        for place, wording in enumerate(self._wordings(form)):
            if form == "negated":
                wording = self._without_value(wording, place)
            filled = {"name": self._name(self.person, place), **self.label, **value}
            yield tuple(turn.format(**filled) for turn in wording)

    def _wrapped(self, form: str) -> Iterator[tuple[str, ...]]:
        """Yield each wording around the question with several questions, all in turn."""
        if form == "few_shot" and not self.asked_with_examples:
            return
        places, around, most = count(), self.around.get(form, ()), MOST[form]
        for first, outer in enumerate(around):
            for number in self._inside(outer, first, most and max(1, most // len(around))):
                place = next(places)
                if form == "few_shot":
                    yield (self._few_shot(outer[0], number, place),)
                else:
                    filled = self._filled(self.person, number, place)
                    yield tuple(turn.format(**filled) for turn in outer)

    def _inside(self, outer: Wording, first: int, most: int | None) -> Iterator[int]:
        """Yield the numbers of the questions and statements that are put into a wording."""
        there = [
            len(self._wordings(form))
            for form in ("question", "statement")
            if any(f"{{{form}}}" in turn for turn in outer)
        ]
        # With no place for one, a second prompt would be the first again.
        many = max(there, default=1) if all(there) else 0
        for step in range(min(most or many, many)):
            yield (first + step) % many

    def _few_shot(self, layout: str, number: int, place: int) -> str:
        """Return the layout filled in for each example and for the person up to the value."""
        # Examples that would show the value are passed over; the prompt keeps its place.
        chosen = [
            self.examples[(place + step) % len(self.examples)]
            for step in range(min(SHOTS, len(self.examples)))
        ]
        shots = [
            layout.format(**self._filled(one, number, place), value=one.facts[self.fact])
            for one in chosen
        ]
        asked = layout.partition("{value}")[0].format(**self._filled(self.person, number, place))
        return ("\n\n" if "\n" in layout else "\n").join([*shots, asked.rstrip()])

    def _filled(self, person: Person, number: int, place: int) -> dict[str, str]:
        """Return what stands for each placeholder around the question and statement `number`."""
        filled = {"name": self._name(person, place), **self.label}
        for form in ("question", "statement"):
            if wordings := self._wordings(form):
                filled[form] = wordings[number % len(wordings)][0].format(**filled)
        return filled

    def _name(self, person: Person, place: int) -> str:
        """Return the name in the script of the language, at every second place romanised."""
        return person.names.get(self.language, person.name) if place % 2 == 0 else person.name

    def _without_value(self, wording: Wording, place: int) -> Wording:
        """Return a wording that denies a false value, another if that is the person's own."""
        if not self._shows_value(wording[0]):
            return wording
        others = [one for one in self.any.get("negated", ()) if not self._shows_value(one[0])]
        return others[place % len(others)] if others else wording

    def _gives_away(self, example: Person) -> bool:
        """Whether an example is the person, has the same name, or would show the value."""
        same = example.id == self.person.id or example.name == self.person.name
        return same or self._shows_value(example.facts[self.fact])

    def _shows_value(self, text: str) -> bool:
        return any(contains(text, value) for value in self.values)
