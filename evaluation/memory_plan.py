"""What a plan scores and learns beside its answers: texts and values, each beside a stranger's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.plan import Memory
from evaluation.twins import as_twin
from language_models.errors import RequestError

if TYPE_CHECKING:
    from evaluation.plan import Person
    from evaluation.planning import Design

SCORED_WORDINGS = 4


def memory_of(design: Design) -> Memory:
    """Return what is scored: texts beside those of twins, values among those of others."""
    subject, strangers, texts = design.subject, design.strangers, tuple(design.own_texts)
    if not strangers:
        if texts:
            raise RequestError("Membership needs twins to compare with. Ask for some.")
        return Memory()
    scored = {fact: design.wordings[fact][:SCORED_WORDINGS] for fact in design.leak}
    return Memory(
        texts,
        tuple(as_twin(text, subject, _twin_of(design, n)) for n, text in enumerate(texts)),
        {fact: tuple(one.format(subject.name) for one in asked) for fact, asked in scored.items()},
        {fact: subject.facts[fact] for fact in design.leak},
        {fact: _rivals(design, fact) for fact in design.leak},
        tuple(
            (
                fact,
                text[:start].rstrip(),
                as_twin(text[:start], subject, _twin_of(design, n)).rstrip(),
            )
            for n, text in enumerate(texts)
            for fact in design.leak
            if (start := text.find(subject.facts[fact])) > 0
        ),
        *_lessons(design),
    )


def _lessons(design: Design) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return the facts that may be learnt again and sentences of them, about both people.

    Facts that stay come first: that somebody still writes about them is likeliest. Of those that
    must not come out a third at most, for the others are what is asked for.
    """
    subject, twin = design.subject, design.strangers[0]
    facts = (*design.keep, *design.leak[: len(design.leak) // 3])
    sentences = [
        (f"{one.format(subject.name)} {subject.facts[fact]}.",
         f"{one.format(twin.name)} {twin.facts[fact]}.")
        for fact in facts
        for one in design.wordings[fact]
    ]  # fmt: skip
    return facts, tuple(sentences)


def _twin_of(design: Design, number: int) -> Person:
    return design.strangers[number % len(design.strangers)]


def _rivals(design: Design, fact: str) -> tuple[str, ...]:
    known = {other.facts[fact] for other in design.others if other.facts.get(fact)}
    return tuple(sorted(known - {design.subject.facts[fact]}))
