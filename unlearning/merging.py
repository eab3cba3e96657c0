"""Adapters as one change of the base's weights: W + Σ scale · B A, in the order of the shards.

Always made from the base and the adapters that remain. To subtract an adapter from merged weights
would leave other bits, and in 16 bits a trace of it; PEFT's `linear` merge is not this sum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from language_models.delta import WeightDelta
from language_models.errors import RequestError
from unlearning.adapters import names_of

if TYPE_CHECKING:
    from language_models.checkpoint import LanguageModel
    from unlearning.mixture import Experts


def merged(lm: LanguageModel, experts: Experts) -> WeightDelta:
    """Return the sum of all adapters as one low-rank change, without changing the weights.

    Each product is exact before its one rounding (language_models.tensor_change), so equal
    adapters give equal bits on any machine. Raises RequestError where there is no adapter.
    """
    if not experts.adapters:
        raise RequestError("No adapter is in force, so there is nothing to merge.")
    factors = {}
    for one in experts.places:
        first, second = names_of(one)
        left = torch.cat([adapter[second].double() * experts.scale for adapter in experts.adapters],
                         dim=1)  # fmt: skip
        right = torch.cat([adapter[first].double() for adapter in experts.adapters])
        factors[one.name] = one.stored(left, right)
    return WeightDelta.from_factors(lm, factors)
