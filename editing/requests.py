"""What is asked of an editing method and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from language_models.errors import RequestError

if TYPE_CHECKING:
    from language_models.delta import WeightDelta


@dataclass(frozen=True)
class EditRequest:
    """One fact to rewrite.

    prompt and paraphrases hold exactly one "{}" for the subject and end where the value begins;
    target has no leading space. neighbours are whole prompts whose continuation must stay: other
    people's same fact, the same person's other facts.
    """

    subject: str
    prompt: str
    target: str
    paraphrases: tuple[str, ...] = ()
    neighbours: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.subject.strip():
            raise RequestError("The subject is empty. Give the name as it stands in the prompts.")
        if not self.target.strip():
            raise RequestError("The target is empty. Give the value that is to come out.")
        if self.target != self.target.lstrip():
            raise RequestError("The target begins with a space. Give the value alone.")
        for wording in (self.prompt, *self.paraphrases):
            if wording.count("{}") != 1:
                raise RequestError('Each prompt needs exactly one "{}" where the name stands.')
        if any(not neighbour.strip() or "{}" in neighbour for neighbour in self.neighbours):
            raise RequestError('A neighbour is a whole prompt, with a name in place of "{}".')

    @property
    def wordings(self) -> tuple[str, ...]:
        """The prompt and its paraphrases, each once."""
        return tuple(dict.fromkeys((self.prompt, *self.paraphrases)))


@dataclass(frozen=True)
class EditResult:
    """The change as an object of its own and the evidence, which names neither person nor value."""

    delta: WeightDelta
    details: dict[str, Any]
