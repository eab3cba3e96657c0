"""Who answers: a model's own weights, or anything else that is asked in the same way.

torch comes in with the first answer, so that plans and verdicts need no torch.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Protocol

from language_models.errors import RequestError
from language_models.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import TypeIs

    from language_models.checkpoint import LanguageModel

__all__ = [
    "Answer",
    "Answerer",
    "Ask",
    "Weights",
    "check",
    "is_answerer",
    "messages",
    "transcript",
]


@dataclass(frozen=True)
class Ask:
    """What a user says, in order; the answerer answers after each turn.

    chat: put through the chat form of the model, else as plain text to be continued.
    temperature 0 is greedy; above 0 `seed` decides the draw.
    """

    turns: tuple[str, ...]
    chat: bool = False
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """One text per turn. stopped: the model itself ended each of them, none was cut off."""

    texts: tuple[str, ...]
    stopped: bool


class Answerer(Protocol):
    """Something that answers."""

    @property
    def where(self) -> Mapping[str, str]:
        """What was asked: "kind" is "weights" or "endpoint"; the rest names which."""

    @property
    def problems(self) -> tuple[str, ...]:
        """Reasons for which nothing may be concluded from what was answered so far."""

    def answer(
        self, asks: Sequence[Ask], *, max_new_tokens: int, progress: Progress | None = None
    ) -> list[Answer]:
        """Return one answer per ask, in order. Raises LetheError."""


def is_answerer(asked: object) -> TypeIs[Answerer]:
    """Whether something answers by itself; a LanguageModel does so by `Weights`."""
    return hasattr(asked, "answer")


def transcript(turns: Sequence[str], said: Sequence[str]) -> str:
    """Return a dialogue as plain text: each turn, the answer right behind it, then a new line.

    A model without a chat form goes on with what stands there, so the answer to the last turn
    comes next. turns: one more than `said`.
    """
    lines = [turn + text for turn, text in zip_longest(turns, said, fillvalue="")]
    return "\n".join(lines)


class Weights:
    """A language model in memory, asked in batches."""

    problems: tuple[str, ...] = ()

    def __init__(self, lm: LanguageModel, *, batch_size: int = 256) -> None:
        self.lm = lm
        self.batch_size = batch_size

    @property
    def where(self) -> Mapping[str, str]:
        """The SHA-256 of the tensors as they are now, whatever folder they came from."""
        from language_models.checkpoint import state_digest

        return {"kind": "weights", "sha256": state_digest(self.lm.model), "of": "tensors"}

    def answer(
        self, asks: Sequence[Ask], *, max_new_tokens: int, progress: Progress | None = None
    ) -> list[Answer]:
        """Return one answer per ask; later turns see the model's own earlier answers.

        Does not depend on the batch. Raises RequestError (a chat without a chat template, an
        empty turn) and NoNumbers.
        """
        check(asks)
        said: list[list[str]] = [[] for _ in asks]
        stopped = [True] * len(asks)
        report, total = progress or silent, sum(len(ask.turns) for ask in asks)
        done = 0
        for places in _rounds(asks):
            prompts = [self._prompt(asks[place], said[place]) for place in places]
            chosen = [asks[place] for place in places]
            written = self._write(prompts, chosen, max_new_tokens, _from(report, done, total))
            for place, (text, ended) in zip(places, written, strict=True):
                said[place].append(text)
                stopped[place] = stopped[place] and ended
            done += len(places)
        return [Answer(tuple(texts), ended) for texts, ended in zip(said, stopped, strict=True)]

    def _write(
        self, prompts: list[str], asks: list[Ask], max_new_tokens: int, progress: Progress
    ) -> list[tuple[str, bool]]:
        from language_models.generation import write

        written = write(
            self.lm,
            prompts,
            max_new_tokens=max_new_tokens,
            temperature=asks[0].temperature,
            seed=[ask.seed for ask in asks],
            batch_size=self.batch_size,
            progress=progress,
        )
        return [(one.text, one.stopped) for one in written]

    def _prompt(self, ask: Ask, said: list[str]) -> str:
        turns = ask.turns[: len(said) + 1]
        if not ask.chat:
            return transcript(turns, said)
        tokenizer = self.lm.tokenizer
        if not tokenizer.chat_template:
            raise RequestError(
                "This model has no chat template, so it cannot be asked as a chat. Leave the form"
                " 'chat' out, or save the model with the template of its tokenizer."
            )
        text = str(
            tokenizer.apply_chat_template(
                messages(turns, said), tokenize=False, add_generation_prompt=True
            )
        )
        # The template writes the mark of the beginning, and the tokenizer would once more.
        return text.removeprefix(tokenizer.bos_token) if self._begins() else text

    def _begins(self) -> bool:
        from language_models.generation import encode

        tokenizer = self.lm.tokenizer
        return bool(tokenizer.bos_token) and encode(self.lm, "a")[0] == tokenizer.bos_token_id


def messages(turns: Sequence[str], said: Sequence[str]) -> list[dict[str, str]]:
    """Return a dialogue as the messages of a chat, the user's and the assistant's in turn."""
    found = []
    for place, turn in enumerate(turns):
        found.append({"role": "user", "content": turn})
        if place < len(said):
            found.append({"role": "assistant", "content": said[place]})
    return found


def check(asks: Sequence[Ask]) -> None:
    """Raise RequestError for an ask that cannot be put."""
    for ask in asks:
        if not ask.turns or not all(ask.turns):
            raise RequestError("An ask needs at least one turn, and no turn may be empty.")
        if not 0 <= ask.temperature < float("inf"):
            raise RequestError("The temperature of an ask starts at 0 and is finite.")


def _rounds(asks: Sequence[Ask]) -> list[list[int]]:
    """Return the places to ask together: the same turn, then the same temperature."""
    found: defaultdict[tuple[int, float], list[int]] = defaultdict(list)
    for place, ask in enumerate(asks):
        for turn in range(len(ask.turns)):
            found[turn, ask.temperature].append(place)
    return [found[key] for key in sorted(found)]


def _from(report: Progress, start: int, total: int) -> Progress:
    return lambda _stage, done, _total: report("answer", start + done, total)
