"""The plain full retrain: every step made again from the model that the training began with.

It uses no checkpoint, so it is the reference for the replay and for the sharded adapters, and what
is left where the recorded environment cannot be had again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unlearning.deterministic import environment
from unlearning.filtered_replay import divided, made_again, without
from unlearning.trace import open_trace
from unlearning.training import require_model

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress
    from unlearning.training import Trained


def retrain_without(
    lm: LanguageModel,
    folder: Path,
    subjects: Collection[str],
    out: Path,
    progress: Progress | None = None,
) -> Trained:
    """Make the whole training in `folder` again without the records of `subjects`, into `out`.

    The class is A in the recorded environment and A′ in another. Raises RequestError, before
    anything is written, for an unknown subject, a changed folder or another model.
    """
    trace = open_trace(folder)
    require_model(trace, lm)
    now = environment(lm.device)
    division = divided(trace, subjects)
    new = without(trace, division, out, now)
    same = now == trace.header["environment"]
    return made_again(lm, new, division, "A" if same else "A′", progress)
