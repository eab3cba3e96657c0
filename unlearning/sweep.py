"""A small grid of runs, of which the least invasive one that holds the gates is kept.

Least invasive: the smallest ‖Δ‖/‖W‖. A run with the whole margin of the gates goes before one that
ended with less: there, wordings that no gate asks are the first to leak. Each run starts from the
same weights, and one change at most is held beside them.
"""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from language_models.errors import NotReached, RequestError
from language_models.methods import configured, find, public_config
from language_models.progress import Progress, silent
from unlearning import METHODS, unlearn
from unlearning.gates import ROUNDING, Gates, GatesNotHeld

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from language_models.checkpoint import LanguageModel
    from unlearning.results import Text, UnlearnResult

Candidate = tuple[str, Any]


def grid(method: str, **values: Iterable[Any]) -> list[Candidate]:
    """Return a candidate for each combination of the values given for settings of a method."""
    chosen = find(METHODS, method)
    known = {one.name for one in fields(chosen.config)}
    unknown = sorted(values.keys() - known)
    if unknown:
        raise RequestError(f"{method} has no setting {unknown[0]!r}.")
    return [
        (method, chosen.config(**dict(zip(values, combination, strict=True))))
        for combination in product(*values.values())
    ]


def sweep(
    lm: LanguageModel,
    forget: Sequence[Text],
    retain: Sequence[Text],
    candidates: Sequence[Candidate],
    gates: Gates,
    progress: Progress | None = None,
) -> UnlearnResult:
    """Run every candidate from the weights of `lm` and leave the least invasive passing change.

    `details["runs"]` tells of all of them. Raises RequestError before anything is changed, and
    NotReached with the weights as before when no candidate holds the gates.
    """
    if not candidates:
        raise RequestError("Give at least one method with its settings to try.")
    for method, config in candidates:
        configured(find(METHODS, method), config)
    report = progress or silent
    best: UnlearnResult | None = None
    runs: list[dict[str, Any]] = []
    for number, (method, config) in enumerate(candidates, start=1):
        try:
            result = unlearn(lm, forget, retain, method, config, gates=gates)
        except NotReached as error:
            runs.append(_told(method, config, error))
        else:
            result.delta.undo(lm)
            runs.append({**result.details, "held": True, "reason": ""})
            if best is None or _rank(result, gates) < _rank(best, gates):
                best = result
        report("sweep", number, len(candidates))
    if best is None:
        raise NotReached(
            f"None of {len(runs)} runs held the gates; the weights are as before. Widen the grid,"
            " or take another measure."
        )
    best.delta.write(lm)
    return replace(best, details={**best.details, "runs": runs})


def _told(method: str, config: Any, error: NotReached) -> dict[str, Any]:
    return {
        "method": method,
        "config": public_config(configured(find(METHODS, method), config)),
        "looks": error.looks if isinstance(error, GatesNotHeld) else [],
        "held": False,
        "reason": str(error),
    }


def _rank(result: UnlearnResult, gates: Gates) -> tuple[bool, float]:
    return result.details["margin"] < gates.margin - ROUNDING, result.details["relative_change"]
