"""Membership inference: the area under the curve of a score, and how sure it is."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def auc(own: Sequence[float], others: Sequence[float]) -> float:
    """Return how often an own text scores below another's, ties one half.

    1: each own text is more like a member; 0.5: nothing tells them apart; below 0.5 the own texts
    are avoided, which is a trace as well.
    """
    if not own or not others:
        raise RequestError("An area under the curve needs texts on both sides.")
    pairs = sum((a < b) + 0.5 * (a == b) for a in own for b in others)
    return pairs / (len(own) * len(others))


def auc_interval(
    area: float, own: int, others: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Return a two-sided interval for an area of `own` against `others` independent texts.

    Newcombe's method 5 (Statistics in Medicine 2006): the areas whose standard error, after Hanley
    and McNeil 1982, reaches what was seen; it does not shrink to nothing at 0 or 1.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)

    def beyond(true: float) -> float:
        n = (own + others) / 2 - 1
        spread = 1 + n * (1 - true) / (2 - true) + n * true / (1 + true)
        return abs(true - area) - z * math.sqrt(true * (1 - true) * spread / (own * others))

    return _edge(beyond, area, 0.0), _edge(beyond, area, 1.0)


def _edge(beyond: Callable[[float], float], inside: float, outside: float) -> float:
    """Return where `beyond` changes its sign between a point inside and the end of the scale."""
    for _ in range(60):
        middle = (inside + outside) / 2
        if beyond(middle) < 0:
            inside = middle
        else:
            outside = middle
    return (inside + outside) / 2
