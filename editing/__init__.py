"""Rewrite single facts in a model's weights. No Django, no compliance here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from editing.requests import EditRequest, EditResult
from editing.rome import RomeConfig
from language_models.errors import RequestError
from language_models.methods import Method, configured, find

if TYPE_CHECKING:
    from collections.abc import Sequence

    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress

__all__ = ["METHODS", "EditRequest", "EditResult", "Method", "RomeConfig", "edit"]

METHODS = {
    "rome": Method(
        name="rome",
        run_path="editing.rome:run",
        config=RomeConfig,
        guarantee="B",
        needs=("subject position", "second moments"),
        summary="Writes one new value for one fact into one MLP weight (r-ROME, rank one).",
    ),
}


def edit(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    method: str = "rome",
    config: Any = None,
    progress: Progress | None = None,
) -> EditResult:
    """Change the weights of `lm` in place so that each request's target follows its prompts.

    `result.delta.revert(lm)` brings the weights back bit for bit. Raises RequestError before
    anything is changed, NotReached when the target was not achieved; then the weights are as
    before.
    """
    chosen = find(METHODS, method)
    if not requests:
        raise RequestError("Give at least one edit request.")
    result: EditResult = chosen.run(lm, tuple(requests), configured(chosen, config), progress)
    return result
