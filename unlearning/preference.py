"""What the methods with alternates share: DPO of a wanted text over the one to unlearn.

L = γ · mean[-(2/β) log σ(β (gain of the wanted text - gain of the forget text))] + α · retain
term (`retain_loss`), gains being log p now less log p before. What both texts begin with in common
cancels out. Both are read in one pass; the values before are one number a text, computed once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from language_models.methods import require_positive, setting
from unlearning.losses import direct_preference
from unlearning.rows import Row, predictions, rows_of
from unlearning.settings import RetainTextsConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from unlearning.loop import Task, Term
    from unlearning.results import Text


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig(RetainTextsConfig):
    """Settings of both methods with alternates."""

    steps: int = setting(60, "steps at most", "measured for altpo")
    beta: float = setting(0.1, "how soon the push on a pair fades", "DPO, section 6")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "beta")


def preferred(task: Task, wanted: Sequence[Text], config: PreferenceConfig) -> list[Term]:
    """Return the terms that prefer wanted[i] to the forget text i."""
    rows = rows_of(task.lm, wanted, config.max_tokens)
    before, wanted_before = task.losses(task.forget), task.losses(rows)

    def loss(chosen: list[int]) -> Tensor:
        pairs = [*_chosen(rows, chosen), *_chosen(task.forget, chosen)]
        losses, count = predictions(task.lm, pairs).losses, len(chosen)
        return direct_preference(
            *(losses[:count], wanted_before[chosen]),
            *(losses[count:], before[chosen]),
            beta=config.beta,
        )

    lengths = [
        2 * max(len(one.ids), len(other.ids)) for one, other in zip(rows, task.forget, strict=True)
    ]
    return [task.by_text(loss, lengths), *task.retained()]


def _chosen(rows: Sequence[Row], numbers: Sequence[int]) -> list[Row]:
    return [rows[number] for number in numbers]
