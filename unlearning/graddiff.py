"""Gradient difference (Liu et al. 2022): ascent on the forget texts, with a retain term.

L = -γ · mean weighted token loss on forget texts + α · retain term (`retain_loss`). The first
term has no lower end unless it is weighted: by a token's chance (WGA, Wang et al. 2025, the
default here) or by the chance of it and of its contrary (SatImp, Yang et al. 2025).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from language_models.methods import setting
from unlearning.loop import Task, Term, unlearned
from unlearning.losses import ascent
from unlearning.settings import RetainTextsConfig, require_not_negative

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress
    from unlearning.gates import Gates
    from unlearning.results import Text, UnlearnResult


@dataclass(frozen=True, kw_only=True)
class GradDiffConfig(RetainTextsConfig):
    """Settings of gradient difference; both powers 0: no weighting of tokens."""

    retain_weight: float = setting(
        60.0, "α, weight of the retain term", "measured for the divergence", published=1.0
    )
    learning_rate: float = setting(
        3e-4, "AdamW's learning rate at first; it falls to zero", "measured", published=1e-5
    )
    steps: int = setting(60, "steps at most", "measured")
    likely_power: float = setting(
        1.0,
        "power of a token's chance: with 0 the push never fades, and others lose more",
        "WGA: 1; SatImp: 5",
        published=0.0,
    )
    unlikely_power: float = setting(0.0, "power of one minus a token's chance", "SatImp: 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_not_negative(self, "likely_power")
        require_not_negative(self, "unlikely_power")


def run(
    lm: LanguageModel,
    forget: Sequence[Text],
    retain: Sequence[Text],
    config: GradDiffConfig,
    progress: Progress | None = None,
    gates: Gates | None = None,
) -> UnlearnResult:
    """Train by the difference of both terms."""

    def terms(task: Task) -> list[Term]:
        def loss(chosen: list[int]) -> Tensor:
            found = task.predictions(task.forget, chosen)
            return ascent(found, config.likely_power, config.unlikely_power)

        return [task.by_token(loss), *task.retained()]

    return unlearned("graddiff", lm, forget, retain, config, terms, progress, gates)
