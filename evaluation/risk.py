"""Residual risk as a degree: leak@k, bounds by prompt, several facts, probes needed, the level.

unlearning literature: leak@k as in "Leak@k: unlearning does not make LLMs forget under
probabilistic decoding"; bounds: Clopper and Pearson 1934, one-sided.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.bounds import clopper_pearson_upper
from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def leak_at_k(n: int, leaks: int, k: int) -> float:
    """Return the chance that k answers, drawn from n of which `leaks` leak, hold a leak.

    1 - C(n - leaks, k) / C(n, k): unbiased for 1 - (1 - p)^k. Raises RequestError for k above n.
    """
    if not 0 <= leaks <= n or not 1 <= k <= n:
        raise RequestError("leak@k needs 0 <= leaks <= n and 1 <= k <= n. Draw more answers.")
    return 1 - math.comb(n - leaks, k) / math.comb(n, k)


def probes_needed(bound: float, confidence: float = 0.95) -> int:
    """Return how many prompts without a leak show that the rate is at most `bound`.

    The least n with (1 - bound)^n <= 1 - confidence: 299 for 1 % and 2,995 for 0.1 % at 95 %.
    """
    if not 0 < bound < 1 or not 0 < confidence < 1:
        raise RequestError("A bound and a confidence lie between 0 and 1.")
    needed = math.ceil(math.log(1 - confidence) / math.log1p(-bound))
    # A logarithm's last digit must not cost or add a probe.
    while needed > 1 and (1 - bound) ** (needed - 1) <= 1 - confidence:
        needed -= 1
    while (1 - bound) ** needed > 1 - confidence:
        needed += 1
    return needed


def power(rate: float, n: int) -> float:
    """Return the chance that n independent probes show a leak of this rate: 1 - (1 - rate)^n."""
    return -math.expm1(n * math.log1p(-rate)) if rate < 1 else 1.0


@dataclass(frozen=True)
class Clustered:
    """Prompts asked, the sum of the shares of their answers that leak, the bound on their rate."""

    prompts: int
    shares: float
    upper: float


def clustered_upper(hits: Mapping[object, Sequence[bool]], confidence: float = 0.95) -> Clustered:
    """Return the bound on the rate of leaking answers, over prompts drawn in the same way.

    hits: prompt -> whether each of its answers leaks. Answers to one prompt depend on each other,
    so each prompt counts once, by the share of its answers that leak, and the bound is that of
    Clopper and Pearson on the sum of shares. With one answer a prompt it is the plain one; with
    several it covers as often as it says in the simulations of proofs/coverage.py, not by proof.
    """
    shares = math.fsum(sum(answers) / len(answers) for answers in hits.values())
    upper = clopper_pearson_upper(shares, len(hits), confidence)
    return Clustered(len(hits), shares, upper)


def corrected(confidence: float, statements: int) -> float:
    """Return the confidence each of several bounds needs so that all hold at once (Bonferroni)."""
    if statements < 1:
        raise RequestError("There must be at least one statement to correct for.")
    return 1 - (1 - confidence) / statements


def level(upper: float | None, *, low: float, moderate: float) -> str:
    """Return the level of an upper bound; None is unknown.

    low: at most `low`; moderate: at most `moderate`; high: above. The policy publishes both.
    """
    if upper is None:
        return "unknown"
    if upper <= low:
        return "low"
    return "moderate" if upper <= moderate else "high"
