"""Rewrite single facts in a model's weights. No Django, no compliance here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from editing.requests import EditRequest, EditResult, check_batch
from language_models.methods import Method, configured, find

if TYPE_CHECKING:
    from collections.abc import Sequence

    from editing.requests import Memory
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress

__all__ = ["METHODS", "EditRequest", "EditResult", "Method", "edit"]

_LOCATED = ("subject position", "second moments")

METHODS = {
    method.name: method
    for method in (
        Method(
            "rome",
            module="editing.rome",
            config_name="RomeConfig",
            guarantee="B",
            needs=_LOCATED,
            summary="Writes one new value for one fact into one MLP weight (r-ROME, rank one).",
        ),
        Method(
            "memit",
            module="editing.memit",
            config_name="MemitConfig",
            guarantee="B",
            needs=_LOCATED,
            summary="Writes many facts at once by least squares, over one or several layers.",
        ),
        Method(
            "emmet",
            module="editing.emmet",
            config_name="EmmetConfig",
            guarantee="B",
            needs=_LOCATED,
            summary="Writes many facts at once into one layer, values met exactly or nearly so.",
        ),
        Method(
            "alphaedit",
            module="editing.alphaedit",
            config_name="AlphaEditConfig",
            guarantee="B",
            needs=_LOCATED,
            summary="Writes many facts at once into directions that other texts hardly use.",
        ),
        Method(
            "mend",
            module="editing.mend",
            config_name="MendConfig",
            guarantee="B",
            needs=("trained editor",),
            summary="Turns the gradient of a fact into a weight change by a trained network.",
        ),
        Method(
            "malmen",
            module="editing.malmen",
            config_name="MalmenConfig",
            guarantee="B",
            needs=("trained editor",),
            summary="As mend for many facts at once, joined by least squares.",
        ),
        Method(
            "finetune",
            module="editing.finetune",
            config_name="FinetuneConfig",
            guarantee="B",
            needs=("gradients",),
            summary="Trains one matrix of one layer on the new facts, breadth first.",
        ),
        Method(
            "lora",
            module="editing.lora",
            config_name="LoraConfig",
            guarantee="B",
            needs=("gradients",),
            summary="Trains a small removable adapter on the new facts.",
        ),
        Method(
            "ultraedit",
            module="editing.ultraedit",
            config_name="UltraEditConfig",
            guarantee="B",
            needs=("gradients",),
            summary="One gradient of the new facts, normalised and solved by least squares.",
        ),
        Method(
            "grace",
            module="editing.grace",
            config_name="GraceConfig",
            guarantee="C",
            needs=("hook at run time",),
            summary="Holds answers back by a codebook beside the weights, until they are changed.",
        ),
    )
}


def edit(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    method: str = "rome",
    config: Any = None,
    progress: Progress | None = None,
    memory: Memory | None = None,
) -> EditResult:
    """Change the weights of `lm` in place so that each request's target follows its prompts.

    `result.revert(lm)` brings the model back bit for bit. memory: `result.memory` of the
    edits that were made on this model before, so that they stay. Raises RequestError before
    anything is changed, NotReached when the target was not achieved; then the weights are as
    before.
    """
    from language_models.modes import evaluating  # torch comes in with the first edit

    chosen = find(METHODS, method)
    check_batch(requests)
    settings = configured(chosen, config)
    with evaluating(lm):
        result: EditResult = chosen.run(lm, tuple(requests), settings, progress, memory)
    return result
