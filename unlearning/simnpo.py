"""SimNPO (Fan et al. 2024): NPO without a reference model, by the mean loss of a text's tokens.

L = γ · mean[-(2/β) log σ(β (NLL / tokens - δ))] + α · retain term (`retain_loss`). The push
fades once a text costs more than δ nats a token, so it stops early with a small δ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from language_models.methods import require_positive, setting
from unlearning.loop import Task, Term, unlearned
from unlearning.losses import simple_negative_preference
from unlearning.settings import RetainTextsConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress
    from unlearning.gates import Gates
    from unlearning.results import Text, UnlearnResult


@dataclass(frozen=True, kw_only=True)
class SimNpoConfig(RetainTextsConfig):
    """Settings of SimNPO."""

    beta: float = setting(
        0.5,
        "how soon the push on a text fades",
        "measured on ten people; tuned at 1B: 3.5",
        published=4.5,
    )
    margin: float = setting(
        8.0,
        "δ, loss a token at which the push is half; with less, the wording alone pays it",
        "measured on ten people; tuned at 1B: 1",
        published=0.0,
    )
    forget_weight: float = setting(
        1.0, "γ, weight of the SimNPO term", "measured on ten people", published=0.125
    )
    retain_weight: float = setting(
        80.0, "α, weight of the retain term", "measured: 80 and 200", published=1.0
    )
    learning_rate: float = setting(
        4e-4,
        "AdamW's learning rate at first; it falls to zero",
        "measured on ten people",
        published=1e-5,
    )
    steps: int = setting(60, "steps at most", "measured on ten people")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "beta")


def run(
    lm: LanguageModel,
    forget: Sequence[Text],
    retain: Sequence[Text],
    config: SimNpoConfig,
    progress: Progress | None = None,
    gates: Gates | None = None,
) -> UnlearnResult:
    """Train by SimNPO; no former model is needed."""

    def terms(task: Task) -> list[Term]:
        def loss(chosen: list[int]) -> Tensor:
            found = task.predictions(task.forget, chosen)
            return simple_negative_preference(
                found.losses, found.counts, config.beta, config.margin
            )

        return [task.by_text(loss), *task.retained()]

    return unlearned("simnpo", lm, forget, retain, config, terms, progress, gates)
