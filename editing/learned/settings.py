"""Settings of learned editors: those of an edit, and those of the training before it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from editing.requests import EditConfig
from language_models.errors import RequestError
from language_models.methods import require_positive, setting

SECOND, ALL = "second", "all"


def how_to_train(method: str) -> str:
    """Return the command that trains an editor, as the end of a message."""
    return (
        f"Train one: python -m editing train --method {method} --model DIR --data FILE --out FOLDER"
    )


@dataclass(frozen=True, kw_only=True)
class LearnedConfig(EditConfig):
    """Settings of an edit by a trained editor."""

    editor: str = setting(
        "", "folder of the editor that was trained for this model", "Lethe", private=True
    )
    rows_per_pass: int = setting(32, "wordings per backward pass; more needs more memory", "Lethe")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "rows_per_pass")

    def folder(self, method: str) -> Path:
        """Return the editor's folder, or say how to make one."""
        if not self.editor:
            raise RequestError(
                f"{method} needs a trained editor: the setting editor. {how_to_train(method)}"
            )
        return Path(self.editor)


@dataclass(frozen=True, kw_only=True)
class EditorTrainingConfig:
    """Settings of the training of an editor. Published values are MEND's, MALMEN's where named."""

    layers: tuple[int, ...] = setting((), "layers to change; none: the last ones", "Lethe")
    layer_count: int = setting(3, "without layers: how many of the last ones", "MEND, table 8")
    matrices: str = setting(
        SECOND,
        "matrices of each MLP: the second projection alone, or all",
        "MALMEN's code; MEND's takes all",
    )
    rank: int = setting(128, "rank of the network's layers", "measured", published=1920)
    network_layers: int = setting(2, "residual layers of the network", "MEND's code")
    step: float = setting(-5e-4, "first learned step of each matrix", "measured", published=1e-4)
    ridge: float = setting(0.0, "first log of the ridge (malmen)", "MALMEN's code")
    edits: int = setting(1, "most facts edited at once in a step", "MEND's code")
    scored: int = setting(12, "most facts of a step whose loss is computed", "Lethe")
    edit_wordings: int = setting(
        4, "wordings of a fact that the edit may see", "measured", published=1
    )
    loss_wordings: int = setting(2, "wordings of a fact in a step's loss", "measured", published=1)
    unrelated: int = setting(4, "unrelated prompts of a fact in a step", "measured", published=1)
    continuation: int = setting(
        8, "tokens of the model's own answer that are to stay too", "measured", published=0
    )
    edit_weight: float = setting(1.0, "weight of the targets' loss", "MALMEN's code; MEND has 0.1")
    keep_weight: float = setting(
        1.0, "weight of the divergence on unrelated prompts", "MEND, eq. 4"
    )
    steps: int = setting(500, "steps of Adam", "measured", published=100_000)
    accumulate: int = setting(1, "batches per step", "measured", published=10)
    rate: float = setting(
        5e-4, "Adam's first learning rate; it falls to zero by a cosine", "measured", published=1e-6
    )
    step_rate: float = setting(
        1e-2,
        "Adam's learning rate of ridges, and of steps in first steps",
        "measured; MEND has 1e-4 for a first step of 1e-4",
        published=1.0,
    )
    clip: float = setting(1.0, "largest norm of a step's gradient", "MALMEN's code; MEND has 100")
    statistics: int = setting(
        128, "facts that the normaliser sees before the first step", "Lethe", published=0
    )
    held_out: float = setting(0.1, "share of the subjects kept for the held-out loss", "Lethe")
    held_out_facts: int = setting(24, "most held-out facts per check", "Lethe", published=500)
    check_every: int = setting(50, "steps between two checks", "measured", published=5000)
    patience: int = setting(
        5, "checks without a lower held-out loss before training stops", "measured", published=4
    )
    rows_per_pass: int = setting(64, "rows per pass; more needs more memory", "Lethe")
    seed: int = setting(0, "seed of everything that is drawn", "Lethe")

    def __post_init__(self) -> None:
        require_positive(
            self,
            *("layer_count", "rank", "network_layers", "edits", "scored", "edit_wordings"),
            *("loss_wordings", "unrelated", "accumulate", "rate", "step_rate", "clip"),
            *("held_out_facts", "check_every", "patience", "rows_per_pass"),
        )
        if min(self.steps, self.continuation, self.statistics) < 0:
            raise RequestError("steps, continuation and statistics must not be below zero.")
        if min(self.edit_weight, self.keep_weight) < 0:
            raise RequestError("edit_weight and keep_weight must not be below zero.")
        if self.matrices not in (SECOND, ALL):
            raise RequestError(f"matrices is one of {SECOND}, {ALL}.")
        if not 0 < self.held_out < 1:
            raise RequestError("held_out is a share: above 0 and below 1.")
