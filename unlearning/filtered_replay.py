"""Make a training again without some people, from the last checkpoint that never saw them.

Their slots are empty, nothing else moves, and their records are not in the new folder. Weights and
optimiser equal, bit for bit, those of the run that never had the records in these slots: up to the
checkpoint both runs made the same steps, and after it a step depends on nothing but the state
before it and its line of the trace (Deterministic replay: "Unlearning at scale", 2508.12220).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from language_models.errors import RequestError
from unlearning.deterministic import environment, require_environment
from unlearning.shards import same_texts
from unlearning.trace import (
    EMPTY,
    checkpoints,
    create,
    keep_state,
    open_trace,
    read_state,
    records_of,
)
from unlearning.training import config_of, require_model, run, token_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress
    from unlearning.deterministic import Step
    from unlearning.records import Record
    from unlearning.trace import Trace
    from unlearning.training import Trained


@dataclass(frozen=True)
class Division:
    """Records that stay; names in the trace of those that go; how many people that are.

    same_texts: records of others that stay and hold a text of those who go.
    """

    stay: list[Record]
    go: set[str]
    subjects: int
    same_texts: int


def replay_without(
    lm: LanguageModel,
    folder: Path,
    subjects: Collection[str],
    out: Path,
    progress: Progress | None = None,
) -> Trained:
    """Train again without the records of `subjects`; the result is the new folder `out`.

    lm: the model that the training began with. A replay that is stopped goes on with
    `training.resume(lm, out)`. The old folder is left as it is: it holds the records and the
    weights that saw them, and is to be destroyed.
    Raises RequestError, before anything is written, for an unknown subject, a changed folder,
    another model or another environment (then `retrain_without` is what is left).
    """
    trace = open_trace(folder)
    require_model(trace, lm)
    require_environment(trace.header["environment"], environment(lm.device))
    division = divided(trace, subjects)
    seen = [step.number for step in trace.steps if _holds(step, division.go)]
    first = seen[0] if seen else len(trace.steps) + 1
    kept = [one for one in checkpoints(trace) if one.number < first]
    for one in kept:
        read_state(trace, one)  # refuses a changed one before anything is written
    new = without(trace, division, out, trace.header["environment"])
    for one in kept:
        keep_state(new, one.number, read_state(trace, one))
    return made_again(lm, new, division, "A", progress)


def divided(trace: Trace, subjects: Collection[str]) -> Division:
    """Return what stays of a training and what goes.

    Raises RequestError when no subject is given, one is unknown, or nothing would stay.
    """
    wanted = set(subjects)
    if not wanted:
        raise RequestError("Give at least one subject.")
    records = records_of(trace)
    unknown = len(wanted - {record.subject for record in records.values()})
    if unknown:
        raise RequestError(
            f"{unknown} of the subjects have no record in this training. Check the ids; was this"
            " request carried out before?"
        )
    stay = [record for record in records.values() if record.subject not in wanted]
    if not stay:
        raise RequestError("No record would stay. Use the model that the training began with.")
    go = {name for name, record in records.items() if record.subject in wanted}
    return Division(stay, go, len(wanted), same_texts(records.values(), wanted))


def without(trace: Trace, division: Division, out: Path, now: Mapping[str, Any]) -> Trace:
    """Write the folder of the same training with the slots of those who go empty.

    now: the environment in which it will be made.
    """
    steps = [replace(step, slots=_emptied(step.slots, division.go)) for step in trace.steps]
    return create(out, trace.key, {**trace.header, "environment": now}, steps, division.stay)


def made_again(
    lm: LanguageModel, new: Trace, division: Division, guarantee: str, progress: Progress | None
) -> Trained:
    """Make the steps that are left in `new`; the result tells its class and what was left out."""
    rows = token_rows(lm, records_of(new), config_of(new).max_tokens)
    trained = run(lm, new, rows, progress)
    told = {
        "guarantee": guarantee,
        "subjects_left_out": division.subjects,
        "records_left_out": len(division.go),
        "same_texts_that_stay": division.same_texts,
    }
    return replace(trained, details={**trained.details, **told})


def _holds(step: Step, gone: Collection[str]) -> bool:
    return any(name in gone for slot in step.slots for name in slot)


def _emptied(slots: Iterable[Iterable[str]], gone: Collection[str]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(EMPTY if name in gone else name for name in slot) for slot in slots)
