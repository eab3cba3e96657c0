"""Does an answer hold a value? One judge for every measurement, with its own error measured.

The error on labelled answers in four languages is in docs/evaluation.md; `python -m
proofs.judge_error` measures it again. What a judge cannot see: paraphrases, amounts in words, and
translations or readings of Chinese characters that were not given among the values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evaluation.values import KINDS, reader
from evaluation.written import EXACT, Hit, sounds
from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

# A plan freezes it: raised whenever a judgement can change.
JUDGE_VERSION = "2026-11-28"

__all__ = ["JUDGE_VERSION", "KINDS", "Hit", "Judge"]

_ORDER = {"exact": 0, "fuzzy": 1, "partial": 2}
_SOUNDED = ("text", "name")


class Judge:
    """Looks for any of `values`, written forms of one fact, in answers.

    lenient (values that must not come out): also slips and other scripts ("fuzzy") and values cut
    short ("partial"), within the distances that each file of `evaluation.written` states. Without
    it (values that must come out or stay) only exact written forms count. Judge only what a model
    wrote, never the prompt. Raises RequestError without values, or with one that is empty.
    """

    def __init__(self, values: Sequence[str], kind: str = "text", *, lenient: bool = True) -> None:
        if not values:
            raise RequestError("A judge needs at least one value to look for.")
        self.lenient = lenient
        self._finders = [reader(value, kind) for value in dict.fromkeys(values)]
        self._name = kind == "name"
        self._sounds = tuple(dict.fromkeys(values)) if lenient and kind in _SOUNDED else ()

    def find(self, answer: str) -> Hit | None:
        """Return the closest way in which `answer` holds the value, or None."""
        hits = []
        for finder in self._finders:
            hit = finder.find(answer, lenient=self.lenient)
            if hit == EXACT:
                return EXACT
            if hit:
                hits.append(hit)
        if not hits and any(
            sounds.occurs(value, answer, name=self._name) for value in self._sounds
        ):
            return Hit("fuzzy", 0)
        return min(hits, key=lambda hit: (_ORDER[hit.how], hit.distance), default=None)
