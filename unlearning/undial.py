"""UNDIAL (Dong et al. 2025): the model learns its own former answers without the true token.

L = γ · mean cross entropy to softmax(former logits - strength · true token) over the tokens of the
forget texts + α · retain term (`retain_loss`). Bounded below. Only scored tokens count: the
published code averages over prompt and padding as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from language_models.methods import require_positive, setting
from unlearning.loop import Task, Term, unlearned
from unlearning.losses import self_distillation
from unlearning.settings import RetainTextsConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress
    from unlearning.gates import Gates
    from unlearning.results import Text, UnlearnResult


@dataclass(frozen=True, kw_only=True)
class UndialConfig(RetainTextsConfig):
    """Settings of UNDIAL; the published one has no retain term."""

    strength: float = setting(10.0, "taken off the true token's logit", "UNDIAL, section 4")
    retain_weight: float = setting(
        1.0, "α, weight of the retain term", "others must stay", published=0.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "strength")


def run(
    lm: LanguageModel,
    forget: Sequence[Text],
    retain: Sequence[Text],
    config: UndialConfig,
    progress: Progress | None = None,
    gates: Gates | None = None,
) -> UnlearnResult:
    """Train towards the former model without the true tokens."""

    def terms(task: Task) -> list[Term]:
        def loss(chosen: list[int]) -> Tensor:
            reference = task.before(task.forget, chosen).logits
            found = task.predictions(task.forget, chosen)
            return self_distillation(reference, found, config.strength)

        return [task.by_token(loss), *task.retained()]

    return unlearned("undial", lm, forget, retain, config, terms, progress, gates)
