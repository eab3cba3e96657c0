"""What a plan scores and learns beside its answers: texts and values, each beside a stranger's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.plan import Memory
from evaluation.twins import exchange, foreign_values
from language_models.errors import RequestError
from language_models.matching import contains
from language_models.positions import fill

if TYPE_CHECKING:
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
    changing = [exchange(subject, twin) for twin in strangers]
    pairs = [(text, changing[n % len(changing)]) for n, text in enumerate(texts)]
    return Memory(
        texts,
        tuple(as_twin(text) for text, as_twin in pairs),
        {fact: tuple(fill(one, subject.name) for one in asked) for fact, asked in scored.items()},
        {fact: subject.facts[fact] for fact in design.leak},
        {fact: tuple(foreign_values(subject, design.others, fact)) for fact in design.leak},
        tuple(
            (fact, begun, as_twin(begun))
            for text, as_twin in pairs
            for fact in design.leak
            if subject.facts[fact] in text
            and (begun := text.partition(subject.facts[fact])[0].rstrip())
        ),
        *_lessons(design),
    )


def _lessons(design: Design) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return the facts that may be learnt again and sentences of them, about both people.

    Facts that stay come first: that somebody still writes about them is likeliest. Of those that
    must not come out a third at most, for the others are what is asked for; no sentence holds a
    value of these.
    """
    subject, twin = design.subject, design.strangers[0]
    facts = (*design.keep, *design.leak[: len(design.leak) // 3])
    asked = [value for fact in design.leak if fact not in facts
             for value in design.expected(fact, "value")]  # fmt: skip
    pairs = [
        (f"{fill(one, subject.name)} {subject.facts[fact]}.",
         f"{fill(one, twin.name)} {twin.facts[fact]}.")
        for fact in facts
        for one in design.wordings[fact]
    ]  # fmt: skip
    return facts, tuple(
        pair for pair in pairs if not any(contains(text, value) for text in pair for value in asked)
    )
