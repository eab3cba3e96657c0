"""Negative Preference Optimisation (Zhang et al. 2024) with a retain term.

L = γ · mean[-(2/β) log σ(β (NLL_θ - NLL_ref))] + α · retain term (`retain_loss`), where NLL is the
sum over a text's tokens and ref the weights before. At θ = ref the gradient of the first term
is that of gradient ascent on the sum; far from ref it fades, so training does not run away. The
reference values are one number a text and are computed once.

Without gates the whole schedule is run: the person's facts soon come out no more, but other
people's suffer at first and come back only towards the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from language_models.methods import require_positive, setting
from unlearning.loop import Task, Term, unlearned
from unlearning.losses import negative_preference
from unlearning.settings import RetainTextsConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress
    from unlearning.gates import Gates
    from unlearning.results import Text, UnlearnResult


@dataclass(frozen=True, kw_only=True)
class NpoConfig(RetainTextsConfig):
    """Settings of NPO with a retain term."""

    beta: float = setting(0.1, "how soon the push on a text fades", "NPO, section 5")
    retain_weight: float = setting(
        40.0,
        "α, weight of the retain term",
        "between 20 and 80, of which each serves some",
        published=1.0,
    )
    learning_rate: float = setting(
        5e-4, "AdamW's learning rate at first", "measured; for 1B models 5e-5", published=1e-5
    )
    steps: int = setting(60, "steps; without gates all are run", "measured: others dip and return")
    check_every: int = setting(4, "steps between two looks at gates and floor", "measured")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "beta", "retain_weight")


def npo_loss(nll: Tensor, reference: Tensor, beta: float) -> Tensor:
    """Return -(2/β) mean log σ(β (nll - reference)) for sums of token losses per text, (b)."""
    return negative_preference(nll, reference, beta).mean()


def run(
    lm: LanguageModel,
    forget: Sequence[Text],
    retain: Sequence[Text],
    config: NpoConfig,
    progress: Progress | None = None,
    gates: Gates | None = None,
) -> UnlearnResult:
    """Train by NPO and return the exact difference."""

    def terms(task: Task) -> list[Term]:
        reference = task.losses(task.forget)

        def loss(chosen: list[int]) -> Tensor:
            losses = task.predictions(task.forget, chosen).losses
            return negative_preference(losses, reference[chosen], config.beta)

        return [task.by_text(loss), *task.retained()]

    return unlearned("npo", lm, forget, retain, config, terms, progress, gates)
