"""How good edits are, by what the model writes: free greedy generation to its own stop.

No teacher forcing and no cut at the length of the right answer, which flatter every method
(Yang et al. 2025). The value must stand in the answer as a whole word.

reliability      the target comes out at the request's prompt
generalization   it comes out at the test's paraphrases, which the edit never saw
locality         other people's answers stay
same_person      the same person's other answers stay
general          answers about nobody stay
interference     other people's prompts that answer with an edited target and did not before;
                 of all such prompts. Here less is better.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from language_models.generation import generate
from language_models.matching import contains, normalise
from language_models.positions import fill

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from editing.facts import Check, Fact
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress

MAX_NEW_TOKENS = 32


@dataclass(frozen=True)
class Share:
    """How many of the questions asked."""

    hits: int = 0
    total: int = 0

    @property
    def rate(self) -> float | None:
        """hits / total; None without questions."""
        return self.hits / self.total if self.total else None

    def __add__(self, other: Share) -> Share:
        return Share(self.hits + other.hits, self.total + other.total)


@dataclass(frozen=True)
class Scores:
    """One share per measure; see the module for what each counts."""

    reliability: Share = Share()
    generalization: Share = Share()
    locality: Share = Share()
    same_person: Share = Share()
    general: Share = Share()
    interference: Share = Share()

    def __add__(self, other: Scores) -> Scores:
        return Scores(*(getattr(self, name) + getattr(other, name) for name in MEASURES))

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return hits, total and rate per measure."""
        return {name: asdict(share) | {"rate": share.rate}
                for name, share in ((name, getattr(self, name)) for name in MEASURES)}  # fmt: skip


MEASURES = tuple(one.name for one in fields(Scores))


class Examination:
    """The questions of some facts with the answers of the unedited model, to be asked again.

    Holds personal data and stays in memory. Made before the first edit.
    """

    def __init__(
        self,
        lm: LanguageModel,
        facts: Sequence[Fact],
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> None:
        self.facts = tuple(facts)
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        # A prompt that asks for an edited fact may not stay, whoever lists it as one to keep.
        self._edited = {prompt for fact in facts for prompt in _edited(fact)}
        self._before = self.ask(lm, progress=progress)

    def before(self, numbers: Iterable[int] | None = None) -> Scores:
        """Return the scores of the unedited model for facts by number, or for all."""
        return self.scored(self._before, numbers)

    def scores(
        self,
        lm: LanguageModel,
        numbers: Iterable[int] | None = None,
        progress: Progress | None = None,
    ) -> Scores:
        """Return the scores of `lm` as it is now, for facts by number, or for all."""
        chosen = self._chosen(numbers)
        return self.scored(self.ask(lm, chosen, progress), chosen)

    def ask(
        self,
        lm: LanguageModel,
        numbers: Iterable[int] | None = None,
        progress: Progress | None = None,
    ) -> dict[str, str]:
        """Return what `lm` answers now to every prompt of these facts: personal data."""
        prompts: dict[str, None] = {}
        for number in self._chosen(numbers):
            fact = self.facts[number]
            checks = (*fact.test.others, *fact.test.same_person, *fact.test.general)
            asked = (_prompt(fact), *_paraphrases(fact), *(check.prompt for check in checks))
            prompts |= dict.fromkeys(asked)
        texts = generate(
            lm,
            list(prompts),
            max_new_tokens=self.max_new_tokens,
            batch_size=self.batch_size,
            progress=progress,
        )
        return dict(zip(prompts, texts, strict=True))

    def scored(self, answers: Mapping[str, str], numbers: Iterable[int] | None = None) -> Scores:
        """Return the scores of some facts by answers to at least their prompts."""
        chosen = [self.facts[number] for number in self._chosen(numbers)]
        targets = {fact.request.target for fact in chosen}

        def said(prompts: Callable[[Fact], Iterable[str]]) -> Share:
            found = [
                contains(answers[prompt], fact.request.target)
                for fact in chosen
                for prompt in prompts(fact)
            ]
            return Share(sum(found), len(found))

        def kept(checks: Iterable[Check]) -> Share:
            found = [self._kept(check, answers) for check in self._once(checks)]
            return Share(sum(found), len(found))

        others = [check for fact in chosen for check in fact.test.others]
        prompts = {check.prompt for check in self._once(others)}
        leaks = sum(self._leaks(prompt, answers, targets) for prompt in prompts)
        return Scores(
            said(lambda fact: [_prompt(fact)]),
            said(_paraphrases),
            kept(others),
            kept(check for fact in chosen for check in fact.test.same_person),
            kept(check for fact in chosen for check in fact.test.general),
            Share(leaks, len(prompts)),
        )

    def _chosen(self, numbers: Iterable[int] | None) -> tuple[int, ...]:
        return tuple(range(len(self.facts)) if numbers is None else numbers)

    def _once(self, checks: Iterable[Check]) -> list[Check]:
        """Each question once, however many facts list it, and none that asks for an edited fact."""
        return [check for check in dict.fromkeys(checks) if check.prompt not in self._edited]

    def _kept(self, check: Check, answers: Mapping[str, str]) -> bool:
        if check.expected is None:
            return normalise(answers[check.prompt]) == normalise(self._before[check.prompt])
        return contains(answers[check.prompt], check.expected)

    def _leaks(self, prompt: str, answers: Mapping[str, str], targets: Iterable[str]) -> bool:
        return any(
            contains(answers[prompt], target) and not contains(self._before[prompt], target)
            for target in targets
        )


def _prompt(fact: Fact) -> str:
    return fill(fact.request.prompt, fact.request.subject)


def _paraphrases(fact: Fact) -> list[str]:
    return [fill(wording, fact.request.subject) for wording in fact.test.paraphrases]


def _edited(fact: Fact) -> list[str]:
    """Return the prompts whose answer the edit is to change."""
    return [fill(wording, fact.request.subject)
            for wording in (*fact.request.wordings, *fact.test.paraphrases)]  # fmt: skip
