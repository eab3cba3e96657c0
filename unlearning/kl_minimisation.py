"""KL minimisation (Maini et al. 2024): ascent on forget texts, the former model on retain texts.

L = -γ · mean token loss on forget texts + α · mean KL(before ‖ now) over the scored tokens of
retain texts. Prompt and padding do not count, unlike in the published code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from language_models.methods import setting
from unlearning.loop import Task, Term, unlearned
from unlearning.losses import ascent
from unlearning.settings import RetainConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress
    from unlearning.gates import Gates
    from unlearning.results import Text, UnlearnResult


@dataclass(frozen=True, kw_only=True)
class KlMinimisationConfig(RetainConfig):
    """Settings of KL minimisation."""

    retain_weight: float = setting(
        5.0, "α, weight of the retain term", "as for GradDiff", published=1.0
    )
    steps: int = setting(30, "steps at most", "not tuned yet")


def run(
    lm: LanguageModel,
    forget: Sequence[Text],
    retain: Sequence[Text],
    config: KlMinimisationConfig,
    progress: Progress | None = None,
    gates: Gates | None = None,
) -> UnlearnResult:
    """Train by ascent while other texts are predicted as before."""

    def terms(task: Task) -> list[Term]:
        def loss(chosen: list[int]) -> Tensor:
            return ascent(task.predictions(task.forget, chosen))

        return [task.by_token(loss), *task.retained(task.drift)]

    return unlearned("kl_minimisation", lm, forget, retain, config, terms, progress, gates)
