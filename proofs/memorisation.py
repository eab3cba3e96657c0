"""How much of a text a model holds: extraction strength, exact match, loss and Min-K.

One set of scores a text, by one pass over prompt and answer (teacher forced). Membership is told by
the area under the curve against texts of the same kind that were never trained on.
"""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING, Any

import torch  # noqa: TID253 -- the proofs look into models

from unlearning.rows import predictions, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from language_models.checkpoint import LanguageModel
    from unlearning.results import Text

LOWEST = 0.4  # Min-K: share of the least likely tokens
MOST_TOKENS = 512


@torch.no_grad()
def token_scores(lm: LanguageModel, texts: Sequence[Text]) -> list[dict[str, float]]:
    """Return per text mean loss and Min-K score in nats, extraction strength and exact match.

    Of a (prompt, answer) the answer alone is scored; the end mark is a token like others.
    """
    scores = []
    for row in rows_of(lm, texts, MOST_TOKENS):
        found = predictions(lm, [row])
        losses = found.token_losses.tolist()
        right = (found.logits.argmax(dim=-1) == found.labels).tolist()
        scores.append({
            "loss": mean(losses),
            "min_k": min_k(losses),
            "strength": strength(right),
            "exact": sum(right) / len(right),
        })  # fmt: skip
    return scores


def strength(right: Sequence[bool]) -> float:
    """Return the longest end of a text that is told from its beginning, as a share of the text.

    right: per token, whether it is the likeliest. 0 where the last token fails; the published code
    gives 1/n there, and leaves the last token out.
    """
    suffix = next((n for n, one in enumerate(reversed(right)) if not one), len(right))
    return suffix / len(right)


def min_k(losses: Sequence[float]) -> float:
    """Return the mean of the largest losses, LOWEST of all and at least one token (Min-K)."""
    largest = sorted(losses, reverse=True)[: max(1, int(LOWEST * len(losses)))]
    return mean(largest)


def auc(own: Sequence[float], others: Sequence[float]) -> float:
    """Return how often an own text costs less than another's: 0.5 tells nothing of membership."""
    pairs = [(a < b) + 0.5 * (a == b) for a in own for b in others]
    return mean(pairs)


def membership(own: Sequence[dict[str, float]], others: Sequence[dict[str, float]]) -> Any:
    """Return the areas under the curve by both scores, and the mean extraction strength."""
    areas = {
        name: round(auc([one[name] for one in own], [one[name] for one in others]), 3)
        for name in ("loss", "min_k")
    }
    return {**areas, "strength": round(mean(one["strength"] for one in own), 3)}
