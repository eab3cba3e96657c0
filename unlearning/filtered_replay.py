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
from unlearning.guarantee import guarantee
from unlearning.shards import same_texts
from unlearning.trace import (
    EMPTY,
    TRACE,
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
    from unlearning.trace import Checkpoint, Trace
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

    lm: the model that the training began with. A replay that was stopped goes on when it is asked
    for again. The old folder is left as it is: it holds the records and the weights that saw them,
    and is to be destroyed (unlearning.destruction).
    Raises RequestError, before anything is written, for an unknown subject, a changed folder,
    another model or another environment (then `retrain_without` is what is left).
    """
    trace = open_trace(folder)
    require_model(trace, lm)
    require_environment(trace.header["environment"], environment(lm.device))
    division = divided(trace, subjects)
    kept = _usable(trace, division)
    for one in kept:
        read_state(trace, one)  # refuses a changed one before anything is written
    new = without(trace, division, out, trace.header["environment"])
    there = max((one.number for one in checkpoints(new)), default=0)
    for one in kept:
        if one.number > there:
            keep_state(new, one.number, read_state(trace, one))
    return made_again(lm, new, division, "A", progress)


def cost_without(folder: Path, subjects: Collection[str]) -> dict[str, float]:
    """Return what a replay without `subjects` would take, without doing it.

    steps_made: steps made again. share_trained: the records they see of all that a whole training
    without the subjects sees, 0 to 1. Raises RequestError as `divided` does.
    """
    trace = open_trace(folder)
    division = divided(trace, subjects)
    begun = max((one.number for one in _usable(trace, division)), default=0)
    seen = [sum(name not in division.go and name != EMPTY for slot in step.slots for name in slot)
            for step in trace.steps]  # fmt: skip
    return {
        "steps_made": len(trace.steps) - begun,
        "share_trained": sum(seen[begun:]) / sum(seen),
    }


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
    """Write the folder of the same training with the slots of those who go empty, or go on in it.

    now: the environment in which it will be made. Raises RequestError for a folder of anything
    else.
    """
    steps = [replace(step, slots=_emptied(step.slots, division.go)) for step in trace.steps]
    header = {**trace.header, "environment": now}
    if (out / TRACE).is_file():
        begun = open_trace(out)
        same = {**header, "records": begun.header["records"]} == begun.header
        if same and begun.key == trace.key and begun.steps == tuple(steps):
            return begun
    return create(out, trace.key, header, steps, division.stay)


def made_again(
    lm: LanguageModel, new: Trace, division: Division, letter: str, progress: Progress | None
) -> Trained:
    """Make the steps that are left in `new`; the result tells its class and what was left out."""
    rows = token_rows(lm, records_of(new), config_of(new).max_tokens)
    trained = run(lm, new, rows, progress)
    told = {
        "subjects_left_out": division.subjects,
        "records_left_out": len(division.go),
        "same_texts_that_stay": division.same_texts,
        "guarantee": guarantee(letter).as_dict(),
    }
    return replace(trained, details={**trained.details, **told})


def _usable(trace: Trace, division: Division) -> list[Checkpoint]:
    """Return the checkpoints before the first step that holds one of those who go."""
    seen = [step.number for step in trace.steps if _holds(step, division.go)]
    first = seen[0] if seen else len(trace.steps) + 1
    return [one for one in checkpoints(trace) if one.number < first]


def _holds(step: Step, gone: Collection[str]) -> bool:
    return any(name in gone for slot in step.slots for name in slot)


def _emptied(slots: Iterable[Iterable[str]], gone: Collection[str]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(EMPTY if name in gone else name for name in slot) for slot in slots)
