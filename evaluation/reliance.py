"""Whether figures can be relied on: a model that says nothing, or never stops, leaks nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evaluation.compare import Thresholds
    from evaluation.results import Measurement


def problems_of(before: Measurement, after: Measurement, limits: Thresholds) -> tuple[str, ...]:
    """Return why no verdict follows from two measurements; nothing when one does."""
    found = list(dict.fromkeys([*before.problems, *after.problems]))
    texts = after.texts
    if texts.answers:
        empty, endless = texts.empty / texts.answers, texts.endless / texts.answers
        if empty > limits.empty_max:
            found.append(
                f"{empty:.0%} of the answers are empty. A model that says nothing shows nothing;"
                " look at what it does."
            )
        if endless > limits.endless_max:
            found.append(
                f"{endless:.0%} of the answers were cut off at the longest length. What would have"
                " come later is not known; allow longer answers."
            )
    found += [
        f"Under the attack {one.title}: {one.details['failed']}"
        for one in after.attacks
        if "failed" in one.details
    ]
    if after.perplexity is not None and not math.isfinite(after.perplexity):
        found.append("The perplexity of other texts is no number. The weights are damaged.")
    if not found and not after.groups:
        found.append("Nothing was measured.")
    return tuple(found)
