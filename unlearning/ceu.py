"""CE-U (Yang 2025): cross entropy to the model's own chances with the true token taken out.

L = γ · mean over scored tokens of the forget texts + α · retain term (`retain_loss`). The
gradient by the logits is never longer than √2 a token, so there is nothing to run away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from language_models.errors import RequestError
from language_models.methods import setting
from unlearning.loop import Task, Term, unlearned
from unlearning.losses import counterfactual
from unlearning.settings import RetainTextsConfig, require_not_negative

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress
    from unlearning.gates import Gates
    from unlearning.results import Text, UnlearnResult


@dataclass(frozen=True, kw_only=True)
class CeuConfig(RetainTextsConfig):
    """Settings of CE-U; the published one has no retain term."""

    skipped: int = setting(
        0, "first scored tokens of a text that are left out", "values may stand first", published=1
    )
    retain_weight: float = setting(
        50.0, "α, weight of the retain term", "measured: 20 to 50", published=0.0
    )
    learning_rate: float = setting(
        4e-4,
        "AdamW's learning rate at first; it falls to zero",
        "measured",
        published=1e-5,
    )
    steps: int = setting(40, "steps at most", "measured")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_not_negative(self, "skipped")


def run(
    lm: LanguageModel,
    forget: Sequence[Text],
    retain: Sequence[Text],
    config: CeuConfig,
    progress: Progress | None = None,
    gates: Gates | None = None,
) -> UnlearnResult:
    """Train by the bounded loss."""

    def terms(task: Task) -> list[Term]:
        if any(row.scored <= config.skipped for row in task.forget):
            raise RequestError("A text has no token left to score. Lower skipped.")

        def loss(chosen: list[int]) -> Tensor:
            return counterfactual(task.predictions(task.forget, chosen), config.skipped)

        return [task.by_token(loss, config.skipped), *task.retained()]

    return unlearned("ceu", lm, forget, retain, config, terms, progress, gates)
