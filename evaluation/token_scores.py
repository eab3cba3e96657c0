"""What a model thinks of given texts token by token, in batches (teacher forced)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from language_models.errors import NoNumbers, RequestError
from language_models.generation import encode, window_of
from language_models.modes import evaluating
from language_models.padding import pad_right
from language_models.positions import with_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from language_models.checkpoint import LanguageModel

# Logits of one pass, in numbers: 256 MiB in single precision.
LARGEST_PASS = 2**26


@dataclass(frozen=True)
class TokenScores:
    """Of the n scored tokens of a text: log-probability (n), whether each is the likeliest (n).

    expected, spread: mean and standard deviation of log p under the model's own distribution at
    each place (n), for Min-K++ (Zhang et al. 2025).
    """

    log_p: Tensor
    right: Tensor
    expected: Tensor
    spread: Tensor

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood in nats."""
        return -float(self.log_p.mean())


@torch.inference_mode()
def token_scores(
    lm: LanguageModel, texts: Sequence[str | tuple[str, str]], *, most: int = 512
) -> list[TokenScores]:
    """Return the scores of each text; of a (prompt, answer) those of the answer alone.

    The first token is given; a text is cut at `most` tokens, or where the model's window ends.
    Raises RequestError when nothing is left to score, NoNumbers when the model gives none.
    """
    most = min(most, window_of(lm) or most)
    rows = [_row(lm, text, most) for text in texts]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index][0]))
    size = lm.model.get_output_embeddings().weight.shape[0]
    found: dict[int, TokenScores] = {}
    while order:
        # From the longest down, so that the first pass is the largest.
        width = len(rows[order[-1]][0])
        count = max(1, min(64, LARGEST_PASS // (width * size)))
        batch, order = order[-count:], order[:-count]
        ids, mask = pad_right(lm, [rows[index][0] for index in batch])
        with evaluating(lm):
            logits = lm.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        for place, index in enumerate(batch):
            start, end = rows[index][1], len(rows[index][0])
            found[index] = _scores(logits[place, start - 1 : end - 1], ids[place, start:end])
    return [found[index] for index in range(len(rows))]


def perplexity(lm: LanguageModel, texts: Sequence[str]) -> float:
    """Return exp of the mean loss over all tokens of all texts."""
    scores = token_scores(lm, texts)
    total = sum(float(one.log_p.sum()) for one in scores)
    # A ruined model may have more than a float holds.
    return math.exp(min(-total / sum(len(one.log_p) for one in scores), 700.0))


def _row(lm: LanguageModel, text: str | tuple[str, str], most: int) -> tuple[list[int], int]:
    ids, start = (encode(lm, text), 1) if isinstance(text, str) else with_target(lm, *text)
    if len(ids[:most]) <= start:
        raise RequestError("A text has nothing to score. Give at least two tokens.")
    return ids[:most], start


def _scores(logits: Tensor, labels: Tensor) -> TokenScores:
    log_p = logits.float().log_softmax(dim=-1)
    if not torch.isfinite(log_p.amax(dim=-1)).all():
        raise NoNumbers("The model gives no numbers (NaN). Its weights are damaged.")
    p = log_p.exp()
    # A token of no probability adds nothing: 0 · log 0 = 0.
    known = torch.nan_to_num(log_p, neginf=0.0)
    expected = (p * known).sum(dim=-1)
    # Around the mean, as the difference of two large squares would be lost in single precision.
    spread = (p * (known - expected[:, None]).square()).sum(dim=-1).clamp(min=1e-6).sqrt()
    chosen = log_p.gather(-1, labels[:, None])[:, 0]
    return TokenScores(
        chosen.cpu(), (log_p.argmax(dim=-1) == labels).cpu(), expected.cpu(), spread.cpu()
    )
