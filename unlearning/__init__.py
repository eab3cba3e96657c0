"""Lower what a model's weights carry of given texts. No Django, no compliance here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from language_models.errors import RequestError
from language_models.methods import Method, configured, find
from unlearning.results import UnlearnResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress

__all__ = ["METHODS", "Method", "UnlearnResult", "unlearn"]

METHODS = {
    "npo": Method(
        name="npo",
        module="unlearning.npo",
        config_name="NpoConfig",
        guarantee="B",
        needs=("retain set",),
        summary="Makes the forget texts less likely than before while the retain texts stay.",
    ),
}


def unlearn(
    lm: LanguageModel,
    forget: Sequence[str],
    retain: Sequence[str],
    method: str = "npo",
    config: Any = None,
    progress: Progress | None = None,
) -> UnlearnResult:
    """Change the weights of `lm` in place so that `forget` loses its influence.

    forget: all texts about the person; retain: texts about others, none of them in forget.
    `result.delta.revert(lm)` brings the weights back bit for bit. Raises RequestError before
    anything is changed, NotReached when training broke down; then the weights are as before.
    """
    chosen = find(METHODS, method)
    if not forget:
        raise RequestError("Give at least one text to unlearn.")
    if chosen.needs == ("retain set",) and not retain:
        raise RequestError("Give texts to retain, or the model loses everything else as well.")
    if set(forget) & set(retain):
        raise RequestError("A text is both to unlearn and to retain. Take it out of one list.")
    result: UnlearnResult = chosen.run(
        lm, tuple(forget), tuple(retain), configured(chosen, config), progress
    )
    return result
