"""Lower what a model's weights carry of given texts. No Django, no compliance here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from language_models.errors import RequestError
from language_models.matching import normalise
from language_models.methods import Method, configured, find
from unlearning.guarantee import guarantee
from unlearning.results import Passage, Text, UnlearnResult, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress
    from unlearning.gates import Gates

__all__ = ["METHODS", "Method", "Passage", "UnlearnResult", "unlearn"]

_RETAIN = "retain set"


def _approximate(name: str, config_name: str, summary: str, *needs: str) -> Method:
    """Every approximate method measures general ability on the retain set, also without a term."""
    return Method(
        name,
        module=f"unlearning.{name}",
        config_name=config_name,
        guarantee="B",
        needs=(_RETAIN, *needs),
        summary=summary,
    )


METHODS = {
    method.name: method
    for method in (
        _approximate(
            "npo",
            "NpoConfig",
            "Makes the forget texts less likely than before while the retain texts stay.",
        ),
        _approximate(
            "simnpo",
            "SimNpoConfig",
            "As npo without a look back: down to a set loss a token.",
        ),
        _approximate(
            "altpo",
            "AltPoConfig",
            "Prefers a given neutral text to each forget text.",
            "alternates",
        ),
        _approximate(
            "idkdpo",
            "IdkDpoConfig",
            "Prefers a refusal to each answer to unlearn.",
            "prompts",
        ),
        _approximate(
            "graddiff",
            "GradDiffConfig",
            "Climbs the loss of the forget texts, descends that of the retain texts.",
        ),
        _approximate(
            "kl_minimisation",
            "KlMinimisationConfig",
            "Climbs the loss of the forget texts while others are predicted as before.",
        ),
        _approximate(
            "undial",
            "UndialConfig",
            "Learns its own former answers with the true tokens taken out. Bounded.",
        ),
        _approximate(
            "ceu",
            "CeuConfig",
            "Learns its own answers with the true tokens taken out. Bounded.",
        ),
        _approximate(
            "rmu",
            "RmuConfig",
            "Leads the states of forget texts astray in one layer: for topics.",
        ),
        _approximate(
            "gradient_ascent",
            "GradientAscentConfig",
            "Climbs the loss of the forget texts, nothing else: for tests and teaching.",
        ),
        _approximate(
            "task_vector",
            "TaskVectorConfig",
            "Learns the forget texts more and goes the other way: for tests and teaching.",
        ),
    )
}


def unlearn(
    lm: LanguageModel,
    forget: Sequence[Text],
    retain: Sequence[Text],
    method: str = "npo",
    config: Any = None,
    progress: Progress | None = None,
    gates: Gates | None = None,
) -> UnlearnResult:
    """Change the weights of `lm` in place so that `forget` loses its influence.

    forget: all texts about the person, each whole, as (prompt, answer) or as a Passage with the
    values that alone are unlearnt; retain: texts about others, none of them in forget. gates: what
    the changed model must hold; the run stops as soon as a share of its change does, and that share
    is written. `result.delta.revert(lm)` brings the weights back bit for bit. Raises RequestError
    before anything is changed; NotReached when training broke down, general ability collapsed or
    the gates did not hold, and then the weights are as before.
    """
    chosen = find(METHODS, method)
    if not forget:
        raise RequestError("Give at least one text to unlearn.")
    if _RETAIN in chosen.needs and not retain:
        raise RequestError("Give texts to retain, or the model loses everything else as well.")
    if _told(forget) & _told(retain):
        raise RequestError("A text is both to unlearn and to retain. Take it out of one list.")
    result: UnlearnResult = chosen.run(
        lm, tuple(forget), tuple(retain), configured(chosen, config), progress, gates
    )
    told = guarantee(chosen.guarantee).as_dict()
    return replace(result, details={**result.details, "guarantee": told})


def _told(texts: Iterable[Text]) -> set[str]:
    """Return texts so that spelling, spaces and the cut between prompt and answer do not matter."""
    return {normalise(whole(text)) for text in texts}
