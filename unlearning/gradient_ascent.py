"""Gradient ascent: makes the forget texts less likely, with nothing that holds the rest.

L = -mean token loss on the forget texts. It has no lower end, so a model soon writes nothing of
use: for tests and teaching. Jang et al. 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from language_models.methods import setting
from unlearning.loop import Task, Term, unlearned
from unlearning.losses import ascent
from unlearning.settings import LoopConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress
    from unlearning.gates import Gates
    from unlearning.results import Text, UnlearnResult


@dataclass(frozen=True, kw_only=True)
class GradientAscentConfig(LoopConfig):
    """Settings of gradient ascent: few and small steps."""

    learning_rate: float = setting(5e-5, "AdamW's learning rate", "not tuned yet", published=1e-5)
    steps: int = setting(10, "steps at most", "Lethe")


def run(
    lm: LanguageModel,
    forget: Sequence[Text],
    retain: Sequence[Text],
    config: GradientAscentConfig,
    progress: Progress | None = None,
    gates: Gates | None = None,
) -> UnlearnResult:
    """Train by ascent alone; the floor on general ability is what ends a collapse."""

    def terms(task: Task) -> list[Term]:
        def loss(chosen: list[int]) -> Tensor:
            return ascent(task.predictions(task.forget, chosen))

        return [task.by_token(loss)]

    return unlearned("gradient_ascent", lm, forget, retain, config, terms, progress, gates)
