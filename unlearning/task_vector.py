"""Task-vector negation (Ilharco et al. 2023): learn the forget texts more, then go the other way.

θ' = θ - a (θ_ft - θ), where θ_ft is the model trained further on the forget texts. One knob, weak
or destructive: for tests and teaching. Gates and floor are looked at after the negation only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from language_models.methods import setting
from unlearning.loop import Task, Term, unlearned
from unlearning.settings import LoopConfig, require_not_negative

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress
    from unlearning.gates import Gates
    from unlearning.results import Text, UnlearnResult


@dataclass(frozen=True, kw_only=True)
class TaskVectorConfig(LoopConfig):
    """Settings of task-vector negation."""

    times: float = setting(5.0, "a, how far to go the other way", "MUSE, appendix")
    learning_rate: float = setting(1e-4, "AdamW's learning rate", "not tuned yet", published=1e-5)
    steps: int = setting(10, "steps on the forget texts", "Lethe")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_not_negative(self, "times")


def run(
    lm: LanguageModel,
    forget: Sequence[Text],
    retain: Sequence[Text],
    config: TaskVectorConfig,
    progress: Progress | None = None,
    gates: Gates | None = None,
) -> UnlearnResult:
    """Train on the forget texts and turn the change round."""

    def terms(task: Task) -> list[Term]:
        def loss(chosen: list[int]) -> Tensor:
            return task.predictions(task.forget, chosen).losses

        return [task.by_token(loss)]

    return unlearned(
        "task_vector",
        lm,
        forget,
        retain,
        config,
        terms,
        progress,
        gates,
        finish=lambda trained: trained.keep(-config.times),
    )
