"""What a run must hold to be kept, how much of it is kept, and the floor below which it is stopped.

A run stops when its gates hold, never when its loss looks good: the loss of most methods says
nothing of what the model writes. The gates look at what greedy generation would begin with and how
likely a drawn answer is, both by one pass over prompt and answer, so that they can be looked at
every few steps. They decide when to stop; the verdict is another measurement, by other probes.

Others lose in proportion to the change, while the person's values come out no more well before the
whole of it. So the least share of the change is sought at which forgetting holds; a margin more
than that is written, for wordings that were not asked, and nothing beyond.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch

from language_models.errors import NotReached, RequestError
from language_models.modes import evaluating
from language_models.positions import with_target
from unlearning.rows import Row, predictions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from language_models.checkpoint import LanguageModel
    from unlearning.losses import Predictions

ROWS_PER_PASS = 64
# Texts to retain whose tokens stand for general ability where no questions are given.
ABILITY_TEXTS = 8
# Halvings of the range in which the least share is sought.
HALVINGS = 4
# A drop of exactly the limit must hold although 1.0 - 0.98 is a little more than 0.02.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Question:
    """A prompt and the answer that a model may give to it; its repr, for logs, shows neither."""

    prompt: str = field(repr=False)
    answer: str = field(repr=False)


@dataclass(frozen=True)
class Gates:
    """Questions in wordings that the texts do not use, and the limits for the shares answered.

    forget: about the person. retain: about other people. general: about nobody. leak_max: share
    of forget that may still be answered, greedily and on the mean of draws; half of what a verdict
    allows, whose probes are others. retain_drop, general_drop: how much less than before of the
    others may be answered. margin: how many times the least share of the change that holds forget
    is written, at most the whole.
    """

    forget: tuple[Question, ...]
    retain: tuple[Question, ...]
    general: tuple[Question, ...] = ()
    leak_max: float = 0.01
    retain_drop: float = 0.02
    general_drop: float = 0.02
    margin: float = 1.5

    def __post_init__(self) -> None:
        if not self.forget or not self.retain:
            raise RequestError("Gates need questions about the person and about other people.")
        limits = (self.leak_max, self.retain_drop, self.general_drop)
        if not all(0 <= limit < 1 for limit in limits):
            raise RequestError("The limits of gates are shares from 0 to below 1.")
        if not 1 <= self.margin < math.inf:
            raise RequestError("The margin of gates is 1 or more.")


class Change(Protocol):
    """A change of weights that can act by a share for a while."""

    def scaled(self, share: float) -> AbstractContextManager[None]:
        """Let the model act by this share of the change within the block."""


class GatesNotHeld(NotReached):
    """The run ended and its gates did not hold; `looks` says what was found at each look."""

    def __init__(self, looks: list[dict[str, Any]]) -> None:
        super().__init__(
            "The gates did not hold at the end of the run; the weights are as before. Allow more"
            " steps, change the weights of both terms, or try a grid of settings."
        )
        self.looks = looks


class Asked:
    """Questions as rows of tokens, to be put to a model again and again."""

    def __init__(self, lm: LanguageModel, questions: Sequence[Question]) -> None:
        self.lm = lm
        self.rows = sorted((_row(lm, one) for one in questions), key=lambda row: len(row.ids))

    def share(self) -> float:
        """Return the share of questions to which greedy generation would begin with the answer."""
        return self.shares()[0]

    def shares(self) -> tuple[float, float]:
        """Return that share, and the mean chance of the answer when drawn at temperature 1."""
        first = chance = 0.0
        for found in _passes(self.lm, self.rows):
            wrong = found.logits.argmax(dim=-1) != found.labels
            first += float((found.per_text(wrong.float()) == 0).sum())
            chance += float(found.losses.neg().exp().sum())
        return first / len(self.rows), chance / len(self.rows)


class Watch:
    """Looks at a model that is being changed; `looks` keeps what was found.

    general: share of general questions answered; without any, of tokens of retain texts that come
    first. share: how much of the change is to be written, as the last look found; margin: how many
    times the least that holds forget.
    """

    def __init__(
        self, lm: LanguageModel, retain: Sequence[Row], gates: Gates | None, floor: float
    ) -> None:
        self.lm, self.gates, self.floor = lm, gates, floor
        self.texts = sorted(retain[:ABILITY_TEXTS], key=lambda row: len(row.ids))
        self.asked: dict[str, Asked] = {}
        if gates is not None:
            groups = {"forget": gates.forget, "retain": gates.retain, "general": gates.general}
            self.asked = {name: Asked(lm, one) for name, one in groups.items() if one}
        self.before = {name: one.share() for name, one in self.asked.items() if name != "forget"}
        if "general" not in self.before:
            self.before["general"] = self._ability()
        self.looks: list[dict[str, Any]] = []
        self.share = self.margin = 1.0

    @property
    def held(self) -> bool:
        """Whether all gates held at the last look."""
        return bool(self.looks) and bool(self.looks[-1]["held"])

    def look(self, step: int, change: Change | None = None, *, last: bool = False) -> bool:
        """Look once and return whether all gates hold; without gates they never do.

        change: what of which a share may be written; without it the model is looked at as it is.
        last: nothing more will be trained, so that less than the whole margin must do. Raises
        NotReached when general ability fell below the floor.
        """
        general = self._ability()
        if general < self.floor * self.before["general"]:
            raise NotReached(
                f"After step {step}, general ability had fallen from {self.before['general']:.0%}"
                f" to {general:.0%}. The run was stopped and the weights are as before. Lower the"
                " learning rate or raise the weight of the retain term."
            )
        found: dict[str, Any] = {"step": step, "general": general, "held": False}
        if self.gates is not None:
            most = 1.0 if last else 1 / self.gates.margin
            found |= self._least(self.gates, change, most) if change else self._held(self.gates)
        self.looks.append(found)
        return self.held

    def conclude(self, step: int, change: Change | None = None) -> None:
        """Look a last time; raise GatesNotHeld where there are gates that do not hold."""
        held = self.look(step, change, last=True)
        if self.gates is not None and not held:
            raise GatesNotHeld(self.looks)

    def _least(self, gates: Gates, change: Change, most: float) -> dict[str, Any]:
        """Find the share to write and return it with what it answers.

        most: the share that must hold the forget gate.
        """
        with change.scaled(most):
            leak = self._leak()
        if leak > gates.leak_max + ROUNDING:
            return {"forget": leak, "retain": None, "share": most}
        least = 0.0
        for _ in range(HALVINGS):
            middle = (least + most) / 2
            with change.scaled(middle):
                holds = self._leak() <= gates.leak_max + ROUNDING
            least, most = (least, middle) if holds else (middle, most)
        self.share = min(1.0, most * gates.margin)
        self.margin = self.share / most
        with change.scaled(self.share):
            return {**self._held(gates), "share": self.share}

    def _held(self, gates: Gates) -> dict[str, Any]:
        """Return the shares and whether they hold; what comes after a gate that fails is None."""
        found: dict[str, Any] = {"forget": self._leak(), "retain": None}
        held = found["forget"] <= gates.leak_max + ROUNDING
        if held:
            found["retain"] = self.asked["retain"].share()
            held = self.before["retain"] - found["retain"] <= gates.retain_drop + ROUNDING
        if held and gates.general:
            found["general"] = self._ability()
            held = self.before["general"] - found["general"] <= gates.general_drop + ROUNDING
        return {**found, "held": held}

    def _leak(self) -> float:
        return max(self.asked["forget"].shares())

    def _ability(self) -> float:
        if "general" in self.asked:
            return self.asked["general"].share()
        scored = sum(row.scored for row in self.texts)
        right = sum(
            int((found.logits.argmax(dim=-1) == found.labels).sum())
            for found in _passes(self.lm, self.texts)
        )
        return right / scored if scored else 0.0


def _row(lm: LanguageModel, question: Question) -> Row:
    ids, start = with_target(lm, question.prompt, question.answer)
    return Row(ids, range(start, len(ids)))


def _passes(lm: LanguageModel, rows: Sequence[Row]) -> Iterator[Predictions]:
    """Predict rows that stand in the order of their lengths, some at a time."""
    for start in range(0, len(rows), ROWS_PER_PASS):
        with evaluating(lm), torch.no_grad():
            found = predictions(lm, rows[start : start + ROWS_PER_PASS])
        yield found
