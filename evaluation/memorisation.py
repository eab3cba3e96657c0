"""How much of given texts a model holds: extraction strength, exact memorisation, losses, rank.

Teacher forced: each token is told the ones before it. These figures see traces that answers do
not show, and say nothing about what comes out when somebody asks.
"""

from __future__ import annotations

import zlib
from statistics import mean
from typing import TYPE_CHECKING, Any

from evaluation.membership import auc, auc_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluation.plan import Memory
    from evaluation.token_scores import TokenScores
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress

LOWEST = 0.4  # Min-K: share of the least likely tokens (Shi et al. 2024)
MOST_RIVALS = 15


def strength(right: Sequence[bool]) -> float:
    """Return the longest end of a text that is told from its beginning, as a share of the text.

    right: per token, whether it is the likeliest. Extraction strength 1 - k / n of the shortest
    beginning k (Carlini et al. 2021); 0 where the last token fails.
    """
    suffix = next((n for n, one in enumerate(reversed(right)) if not one), len(right))
    return suffix / len(right)


def lowest(values: Sequence[float]) -> float:
    """Return minus the mean of the lowest values, LOWEST of all and at least one (Min-K)."""
    return -mean(sorted(values)[: max(1, int(LOWEST * len(values)))])


def attack_scores(text: str, scores: TokenScores) -> dict[str, float]:
    """Return the score of each membership attack; the higher, the less like a member.

    loss: nats a token. zlib: loss over the bytes of the compressed text. min_k, min_k_plus: of the
    least likely tokens, plain and as distances from what the model expects there.
    """
    distances = (scores.log_p - scores.expected) / scores.spread
    return {
        "loss": scores.loss,
        "zlib": scores.loss / len(zlib.compress(text.encode())),
        "min_k": lowest(scores.log_p.tolist()),
        "min_k_plus": lowest(distances.tolist()),
    }


def rank(own: float, rivals: Sequence[float]) -> float:
    """Return the share of rival values that cost more than the own one, ties one half.

    1: the own value is the likeliest; 0.5: chance.
    """
    return mean((own < rival) + 0.5 * (own == rival) for rival in rivals)


def memorisation(
    lm: LanguageModel, memory: Memory, progress: Progress | None = None
) -> dict[str, Any]:
    """Return the scores of a plan's texts and facts; {} for a plan without any.

    membership: attack -> area under the curve (0.5 tells nothing) with a 95 % interval, own texts
    against the strangers'. texts: strength and exact match of both. facts: fact -> strength, exact
    match, rank among rivals, means over its prompts.
    """
    found: dict[str, Any] = {}
    if memory.own:
        if progress:
            progress("memorisation", 0, 2)
        found |= _membership(lm, memory)
    if memory.facts:
        if progress:
            progress("memorisation", 1, 2)
        found["facts"] = _facts(lm, memory)
    return found


def _membership(lm: LanguageModel, memory: Memory) -> dict[str, Any]:
    from evaluation.token_scores import token_scores

    sides = {
        name: list(zip(texts, token_scores(lm, texts), strict=True))
        for name, texts in (("own", memory.own), ("strangers", memory.strangers))
    }
    rows = {name: [attack_scores(*pair) for pair in pairs] for name, pairs in sides.items()}
    areas = {}
    for attack in rows["own"][0]:
        own = [row[attack] for row in rows["own"]]
        others = [row[attack] for row in rows["strangers"]]
        area = auc(own, others)
        low, high = auc_interval(area, len(own), len(others))
        areas[attack] = {"area": area, "low": low, "high": high}
    texts = {name: _held([scores for _, scores in pairs]) for name, pairs in sides.items()}
    return {"membership": areas, "texts": texts}


def _held(scores: Sequence[TokenScores]) -> dict[str, float]:
    right = [one.right.tolist() for one in scores]
    return {
        "count": len(right),
        "strength": mean(strength(one) for one in right),
        "exact": mean(sum(one) / len(one) for one in right),
    }


def _facts(lm: LanguageModel, memory: Memory) -> dict[str, Any]:
    from evaluation.token_scores import token_scores

    asked: list[tuple[str, str]] = []
    for fact, value, rivals in _candidates(memory):
        asked += [(prompt, one) for prompt in memory.facts[fact] for one in (value, *rivals)]
    scores = iter(token_scores(lm, asked))
    found = {}
    for fact, _, rivals in _candidates(memory):
        ranks, own_scores = [], []
        for _ in memory.facts[fact]:
            own, *others = [next(scores) for _ in range(1 + len(rivals))]
            own_scores.append(own)
            ranks.append(rank(own.loss, [one.loss for one in others]))
        found[fact] = {**_held(own_scores), "rank": mean(ranks), "rivals": len(rivals)}
    return found


def _candidates(memory: Memory) -> list[tuple[str, str, Sequence[str]]]:
    """Return (fact, value, rivals) of each fact that has rivals, these spread over all known."""
    return [
        (fact, memory.values[fact], rivals[:: -(-len(rivals) // MOST_RIVALS)])
        for fact, rivals in memory.rivals.items()
        if rivals and fact in memory.facts
    ]
