"""TOFU's measures (Maini et al. 2024): truth ratio, forget quality and model utility.

Truth ratios are kept as logarithms, so that no text is too unlikely for them: the geometric form,
log R = mean over wrong answers of (1/n) log p(wrong) - (1/n) log p(restated answer), n tokens with
the end mark. Forget quality does not depend on the form, only on the order of the ratios.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from fractions import Fraction
from statistics import harmonic_mean, mean
from typing import TYPE_CHECKING, Any

import torch  # noqa: TID253 -- the proofs look into models

from language_models import generate
from unlearning.rows import predictions, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from language_models import LanguageModel
    from proofs.tofu_data import Question, Split
    from unlearning.results import Text

ROWS_PER_PASS = 32
MOST_TOKENS = 512
NEW_TOKENS = 128


@torch.no_grad()
def mean_losses(lm: LanguageModel, texts: Sequence[Text]) -> list[float]:
    """Return -log p of each answer in nats a token, its end mark among them."""
    rows = rows_of(lm, texts, MOST_TOKENS)
    order = sorted(range(len(rows)), key=lambda number: len(rows[number].ids))
    losses = [0.0] * len(rows)
    for start in range(0, len(order), ROWS_PER_PASS):
        part = order[start : start + ROWS_PER_PASS]
        found = predictions(lm, [rows[number] for number in part])
        for number, loss in zip(part, (found.losses / found.counts).tolist(), strict=True):
            losses[number] = loss
    return losses


def answers(lm: LanguageModel, asked: Sequence[Question]) -> list[tuple[float, ...]]:
    """Return per question the mean losses of the answer, of it restated, and of the wrong ones."""
    told = [(one.answer, one.restated, *one.wrong) for one in asked]
    texts = [(one.prompt, text) for one, all_ in zip(asked, told, strict=True) for text in all_]
    losses = iter(mean_losses(lm, texts))
    return [tuple(next(losses) for _ in all_) for all_ in told]


def log_truth_ratio(losses: Sequence[float]) -> float:
    """Return log R from the mean losses that `answers` gives: below 0, the restated one wins."""
    _, restated, *wrong = losses
    return restated - mean(wrong)


def truthful(log_ratio: float) -> float:
    """Return max(0, 1 - R), what model utility takes of a truth ratio."""
    return max(0.0, -math.expm1(min(log_ratio, 0.0)))


def chance(losses: Sequence[float], *, among: bool) -> float:
    """Return p^(1/n) of the answer; `among`: its share beside those of the wrong answers."""
    own = math.exp(-losses[0])
    # Taken against the own one, so that nothing vanishes.
    others = [math.exp(min(losses[0] - wrong, 700.0)) for wrong in losses[2:]]
    return 1 / (1 + sum(others)) if among else own


def rouge_recall(reference: str, text: str) -> float:
    """Return the longest common subsequence of words as a share of the reference's (ROUGE-L).

    Words are runs of a to z and digits in lower case, as in rouge_score, without its stemmer.
    """
    wanted, said = (re.findall("[a-z0-9]+", one.lower()) for one in (reference, text))
    if not wanted:
        return 0.0
    longest = [0] * (len(said) + 1)
    for word in wanted:
        before = longest[:]
        for place, other in enumerate(said, start=1):
            same = before[place - 1] + 1
            longest[place] = same if word == other else max(before[place], longest[place - 1])
    return longest[-1] / len(wanted)


def distance(one: Sequence[float], other: Sequence[float]) -> Fraction:
    """Return the largest gap between both empirical distributions (Kolmogorov-Smirnov's D)."""
    first, second = sorted(one), sorted(other)
    return max(
        abs(
            Fraction(bisect_right(first, value), len(first))
            - Fraction(bisect_right(second, value), len(second))
        )
        for value in [*first, *second]
    )


def p_value(gap: Fraction, size: int) -> float:
    """Return the chance of a gap of at least D between two equal samples of `size` values.

    Exact, by Gnedenko and Korolyuk (1951): P(D >= h/n) = 2 Σ_k (-1)^(k-1) C(2n, n - kh) / C(2n, n),
    k from 1 to n/h, without ties. At n = 80 a true shift of 0.3 sigma goes unnoticed (p > 0.05) in
    71 of 100 cases, one of 0.5 in 28: a p-value proves nothing gone.
    """
    steps = gap * size
    if steps.denominator != 1:
        raise ValueError("The gap is not one of two samples of this size.")
    h = steps.numerator
    if h == 0:
        return 1.0
    paths = sum(
        (-1) ** (k - 1) * math.comb(2 * size, size - k * h) for k in range(1, size // h + 1)
    )
    return float(min(Fraction(1), Fraction(2 * paths, math.comb(2 * size, size))))


def forget_quality(own: Sequence[float], reference: Sequence[float]) -> float:
    """Return the p-value that both models' truth ratios on the forget set are of one kind."""
    if len(own) != len(reference):
        raise ValueError("Both models must be asked the same questions.")
    return p_value(distance(own, reference), len(own))


def rouge_of(lm: LanguageModel, asked: Sequence[Question]) -> float:
    """Return the mean ROUGE-L recall of the greedy answers."""
    said = generate(lm, [one.prompt for one in asked], max_new_tokens=NEW_TOKENS)
    return mean(rouge_recall(one.answer, text) for one, text in zip(asked, said, strict=True))


def group_scores(lm: LanguageModel, asked: Sequence[Question], *, among: bool) -> dict[str, float]:
    """Return chance, ROUGE-L recall of the greedy answer, and truthfulness, each a mean."""
    losses = answers(lm, asked)
    return {
        "chance": mean(chance(one, among=among) for one in losses),
        "rouge": rouge_of(lm, asked),
        "truth": mean(truthful(log_truth_ratio(one)) for one in losses),
    }


def utility(lm: LanguageModel, split: Split) -> dict[str, Any]:
    """Return model utility, the harmonic mean of three scores of three sets; 0 where one is 0."""
    sets = {"retain": split.compared, **split.world}
    groups = {
        name: group_scores(lm, asked, among=name in split.world) for name, asked in sets.items()
    }
    scores = [score for group in groups.values() for score in group.values()]
    return {"utility": harmonic_mean(scores), "groups": groups}
