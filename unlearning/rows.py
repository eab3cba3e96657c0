"""Texts as rows of tokens, and what a model predicts of them: no padding reaches the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from language_models.architecture import parts
from language_models.errors import RequestError
from language_models.generation import end_tokens, pad_right
from language_models.positions import with_target
from unlearning.losses import Predictions, wide
from unlearning.records import tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from language_models.checkpoint import LanguageModel
    from unlearning.results import Text


@dataclass(frozen=True)
class Row:
    """Token ids of a text, of which those from `start` on are scored."""

    ids: list[int]
    start: int = 1

    @property
    def scored(self) -> int:
        """How many tokens are scored."""
        return len(self.ids) - self.start


def rows_of(lm: LanguageModel, texts: Sequence[Text], most: int) -> list[Row]:
    """Return texts with the model's end mark, each at most `most` tokens long.

    Of a whole text the first token is given; of a (prompt, answer) the prompt. Raises
    RequestError for a text of which nothing is left to score.
    """
    return [_row(lm, text, most) for text in texts]


def _row(lm: LanguageModel, text: Text, most: int) -> Row:
    if isinstance(text, str):
        return Row(tokens(lm, text, most))
    ids, start = with_target(lm, *text)
    if start >= most:
        raise RequestError("A prompt has no room for its answer. Raise max_tokens or shorten it.")
    return Row([*ids, *end_tokens(lm)[:1]][:most], start)


def predictions(lm: LanguageModel, rows: Sequence[Row]) -> Predictions:
    """Return what the model predicts at the scored tokens of rows, in one pass.

    The head sees these positions only; it is the largest matrix of a model with many tokens.
    """
    ids, mask = pad_right(lm, [row.ids for row in rows])
    model = parts(lm.model)
    states = model.backbone(input_ids=ids, attention_mask=mask, use_cache=False)[0]
    row = torch.tensor([n for n, one in enumerate(rows) for _ in range(one.scored)])
    column = torch.tensor([at for one in rows for at in range(one.start, len(one.ids))])
    row, column = row.to(ids.device), column.to(ids.device)
    logits = model.logits(states[row.to(states.device), column.to(states.device) - 1])
    return Predictions(
        wide(logits),
        ids[row, column].to(logits.device),
        row.to(logits.device),
        len(rows),
    )
