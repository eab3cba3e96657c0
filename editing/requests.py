"""What is asked of an editing method and what it gives back."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from language_models.errors import ConflictingRequests, RequestError
from language_models.methods import setting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editing.codebook import Codebook
    from editing.lifelong import LifelongStatistics
    from editing.memory import EditedKeys
    from language_models.checkpoint import LanguageModel
    from language_models.delta import WeightDelta

    Memory = EditedKeys | LifelongStatistics | Codebook


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


def check_batch(requests: Sequence[EditRequest]) -> None:
    """Raise RequestError without requests, ConflictingRequests for two targets of one prompt.

    Equal requests are let through: they are one fact, given more weight. Spaces at the end, and
    which of a letter's equal forms is written, make no other prompt or target.
    """
    if not requests:
        raise RequestError("Give at least one edit request.")
    known: dict[str, tuple[int, str]] = {}
    for number, request in enumerate(requests, start=1):
        target = _comparable(request.target)
        for wording in request.wordings:
            text = _comparable(wording.replace("{}", request.subject))
            first, wanted = known.setdefault(text, (number, target))
            if wanted != target:
                raise ConflictingRequests(
                    f"Requests {first} and {number} ask for different targets after the same"
                    " prompt. Keep one of them."
                )


def _comparable(text: str) -> str:
    return unicodedata.normalize("NFC", text).rstrip()


UNREACHED = ("raise", "mark")


@dataclass(frozen=True, kw_only=True)
class EditConfig:
    """Settings that every method of editing has."""

    min_wordings: float = setting(
        0.9, "share of a request's wordings in which the target must come first", "Lethe"
    )
    unreached: str = setting(
        "raise", "what an edit that is not reached does: raise an error, or be marked", "Lethe"
    )
    seed: int = setting(0, "seed of everything that is drawn", "Lethe")

    def __post_init__(self) -> None:
        if not 0 <= self.min_wordings <= 1:
            raise RequestError("min_wordings is a share: between 0 and 1.")
        if self.unreached not in UNREACHED:
            raise RequestError(f"unreached is one of {', '.join(UNREACHED)}.")


@dataclass(frozen=True)
class EditResult:
    """The change as an object of its own and the evidence, which names neither person nor value.

    memory: what later edits of the same model need to keep these; None where a method has none.
    codebook: where the answers are held beside the weights, attached to the model (GRACE).
    """

    delta: WeightDelta
    details: dict[str, Any]
    memory: Memory | None = None
    codebook: Codebook | None = None

    def revert(self, lm: LanguageModel) -> str:
        """Bring `lm` back bit for bit, whichever way it was changed; return its state digest."""
        if self.codebook is not None:
            self.codebook.detach()
        return self.delta.revert(lm)
