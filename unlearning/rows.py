"""Texts as rows of tokens, and what a model predicts of them: no padding reaches the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from language_models.architecture import parts
from language_models.errors import RequestError
from language_models.generation import end_tokens
from language_models.packing import states_of
from language_models.positions import encoded, with_target
from unlearning.losses import Predictions, wide
from unlearning.records import tokens
from unlearning.results import Passage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from language_models.checkpoint import LanguageModel
    from unlearning.results import Text


@dataclass(frozen=True)
class Row:
    """Token ids of a text, and the positions of the scored ones, in order, never 0."""

    ids: list[int]
    places: Sequence[int]

    @property
    def scored(self) -> int:
        """How many tokens are scored."""
        return len(self.places)


def rows_of(lm: LanguageModel, texts: Sequence[Text], most: int) -> list[Row]:
    """Return texts with the model's end mark, each at most `most` tokens long.

    Of a whole text the first token is given; of a (prompt, answer) the prompt; of a passage all
    but its values, wherever they stand. Raises RequestError for a text of which nothing is left to
    score.
    """
    return [_row(lm, text, most) for text in texts]


def _row(lm: LanguageModel, text: Text, most: int) -> Row:
    if isinstance(text, Passage):
        return _passage(lm, text, most)
    if isinstance(text, str):
        ids = tokens(lm, text, most)
        return Row(ids, range(1, len(ids)))
    ids, start = with_target(lm, *text)
    if start >= most:
        raise RequestError("A prompt has no room for its answer. Raise max_tokens or shorten it.")
    ids = [*ids, *end_tokens(lm)[:1]][:most]
    return Row(ids, range(start, len(ids)))


def _passage(lm: LanguageModel, passage: Passage, most: int) -> Row:
    ids, offsets = encoded(lm, passage.text)
    spans = passage.spans
    places = [
        place
        for place, (start, end) in enumerate(offsets)
        if place and any(start < last and end > first for first, last in spans)
    ]
    if not places or places[-1] >= most:
        # A value that is cut off would stay without a word.
        raise RequestError(
            "A text holds none of its values, or one stands behind max_tokens. Write the values as"
            " they stand in the text, or raise max_tokens."
        )
    return Row(ids[:most], places)


def predictions(lm: LanguageModel, rows: Sequence[Row]) -> Predictions:
    """Return what the model predicts at the scored tokens of rows, in one pass.

    The head sees these positions only; it is the largest matrix of a model with many tokens.
    """
    states, begins = states_of(lm, [row.ids for row in rows])
    places = [
        begin + place for begin, row in zip(begins, rows, strict=True) for place in row.places
    ]
    logits = parts(lm.model).logits(states[torch.tensor(places, device=states.device) - 1])
    labels = [row.ids[place] for row in rows for place in row.places]
    numbers = [number for number, row in enumerate(rows) for _ in row.places]
    return Predictions(
        wide(logits),
        torch.tensor(labels, device=logits.device),
        torch.tensor(numbers, device=logits.device),
        len(rows),
    )
