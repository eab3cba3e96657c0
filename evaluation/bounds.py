"""Exact one-sided Clopper-Pearson bounds, by the incomplete beta function and bisection, and the
bound on a rate less others that follows from them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

    Counted = tuple[float, int]


def clopper_pearson_upper(k: float, n: int, confidence: float = 0.95) -> float:
    """Return the upper bound of a rate of which k of n probes were hits.

    The bound is Beta⁻¹(confidence; k + 1, n - k); with k = n it is 1.
    """
    _check(k, n, confidence)
    return 1.0 if k == n else _inverse_beta(confidence, k + 1, n - k)


def clopper_pearson_lower(k: float, n: int, confidence: float = 0.95) -> float:
    """Return the lower bound: Beta⁻¹(1 - confidence; k, n - k + 1); with k = 0 it is 0."""
    _check(k, n, confidence)
    return 0.0 if k == 0 else _inverse_beta(1 - confidence, k, n - k + 1)


def difference_upper(own: Counted, others: Iterable[Counted], confidence: float = 0.95) -> float:
    """Return the upper bound of a rate less the least of other rates; (k, n) of each.

    The rate is bounded from above and the others from below, each at half of the error (after
    Bonferroni). The least of the lower bounds misses the least rate only where the bound of that
    one misses, so the half is enough for any number of others, however they depend on each other.
    """
    each = 1 - (1 - confidence) / 2
    least = min(clopper_pearson_lower(k, n, each) for k, n in others)
    return clopper_pearson_upper(*own, each) - least


def _check(k: float, n: int, confidence: float) -> None:
    if not 0 <= k <= n or n == 0 or not 0 < confidence < 1:
        raise RequestError("A bound needs 0 <= k <= n, n of at least 1 and 0 < confidence < 1.")


def _inverse_beta(probability: float, a: float, b: float) -> float:
    low, high = 0.0, 1.0
    # 60 halvings bring the interval below the spacing of doubles around any useful bound.
    for _ in range(60):
        middle = (low + high) / 2
        if _beta_distribution(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _beta_distribution(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b) for 0 < x < 1."""
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    # The continued fraction converges fast only on the left of the mean.
    if x < (a + 1) / (a + b + 2):
        return front * _continued_fraction(x, a, b) / a
    return 1 - front * _continued_fraction(1 - x, b, a) / b


def _continued_fraction(x: float, a: float, b: float) -> float:
    """Evaluate the fraction of I_x(a, b) by Lentz's method (Numerical Recipes, 6.4)."""
    tiny = 1e-300
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / ((1 + term * d) or tiny)
            c = (1 + term / c) or tiny
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value
