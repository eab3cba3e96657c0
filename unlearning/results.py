"""What an unlearning method is given and gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from language_models.delta import WeightDelta

# A whole text, or a prompt with the answer that alone is learnt.
Text = str | tuple[str, str]


@dataclass(frozen=True)
class UnlearnResult:
    """The change as an object of its own and the evidence, which holds no text of the person."""

    delta: WeightDelta
    details: dict[str, Any]
