"""Find out which facts of a person a model gives out, with the evidence of one answer each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from language_models.errors import RequestError
from language_models.matching import contains

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evaluation.plan import Person
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress


@dataclass(frozen=True)
class FactFinding:
    """What probing found of one fact.

    known: at least one prompt brought the value out. example_prompt and example_output show the
    first hit, or the first answer where there was none; they are personal data.
    """

    fact: str
    prompts: int
    hits: int
    rate: float
    known: bool
    example_prompt: str
    example_output: str

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def probe(
    lm: LanguageModel,
    subject: Person,
    wordings: Mapping[str, Sequence[str]],
    *,
    lead_ins: Sequence[str] = ("",),
    max_new_tokens: int = 32,
    progress: Progress | None = None,
) -> tuple[FactFinding, ...]:
    """Ask for each fact of `subject` in each wording and lead-in, greedily; one finding a fact.

    wordings: fact -> prompts with one "{}" for the name. Raises RequestError for a fact without
    wordings.
    """
    from language_models.generation import generate

    asked: list[tuple[str, str]] = []
    for fact in subject.facts:
        if not wordings.get(fact):
            raise RequestError(f"There are no wordings to probe the fact {fact!r}. Add some.")
        asked += [
            (fact, lead_in + wording.format(subject.name))
            for wording, lead_in in product(wordings[fact], lead_ins)
        ]
    written = generate(
        lm, [prompt for _, prompt in asked], max_new_tokens=max_new_tokens, progress=progress
    )
    answers = [(fact, prompt, text) for (fact, prompt), text in zip(asked, written, strict=True)]
    return tuple(
        _finding(fact, value, [(prompt, text) for name, prompt, text in answers if name == fact])
        for fact, value in subject.facts.items()
    )


def _finding(fact: str, value: str, answers: list[tuple[str, str]]) -> FactFinding:
    hits = [answer for answer in answers if contains(answer[1], value)]
    prompt, output = (hits or answers)[0]
    return FactFinding(
        fact, len(answers), len(hits), len(hits) / len(answers), bool(hits), prompt, output
    )
