"""The commands on a folder that `python -m unlearning train` made.

Each prints its evidence as JSON on the standard output, without any text or id of a person;
progress and errors go to the standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from language_models.checkpoint import load
from language_models.command_line import WIDTH, Meter, carried_out
from language_models.errors import RequestError
from unlearning.destruction import destroy_obsolete, destroy_training
from unlearning.deterministic import environment, require_environment
from unlearning.exact import ShardedAdapters
from unlearning.filtered_replay import cost_without, replay_without
from unlearning.manifest import NAME as MANIFEST
from unlearning.request_files import KEY_VARIABLE, read_key, read_subjects
from unlearning.retrain import retrain_without
from unlearning.sharded_folder import STAGES, ShardedFolder
from unlearning.trace import EMPTY, TRACE, checkpoints, open_trace, read_state, records_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from language_models.checkpoint import LanguageModel

SHARDS, TRACED = "sharded adapters", "training with a trace"
REMINDER = (
    "Earlier weights that saw these people are still on the disk. They are an attack tool: destroy"
    " them with python -m unlearning destroy, and copies and backups elsewhere too."
)


def forget(arguments: Sequence[str]) -> int:
    """Take people out of what was trained."""
    parser = _parser("forget", "Take people out of what train made.")
    _subjects(parser)
    _model(parser)
    parser.add_argument("--out", type=Path, help="new folder; of a training with a trace only")
    parser.add_argument("--retrain", action="store_true",
                        help="make the whole training again, the reference of replay")  # fmt: skip
    parser.add_argument("--in-distribution", action="store_true",
                        help="where the recorded environment cannot be had: exact in distribution"
                             " (class A′) in place of bit for bit (class A)")  # fmt: skip
    return _carried_out(_forget, parser.parse_args(arguments))


def cost(arguments: Sequence[str]) -> int:
    """Tell what forgetting would take."""
    parser = _parser("cost", "Tell what forget would take, and do nothing.")
    _subjects(parser)
    _model(parser, needed=False)
    return _carried_out(_cost, parser.parse_args(arguments))


def switch_off(arguments: Sequence[str]) -> int:
    """Hold back the shards of people until they are taken out."""
    parser = _parser("switch-off", "Leave the shards of people out of all answers (class C).")
    _subjects(parser)
    return _carried_out(
        lambda given: _shards(given).switch_off(read_subjects(given.subjects)),
        parser.parse_args(arguments),
    )


def switch_on(arguments: Sequence[str]) -> int:
    """Take `switch_off` back."""
    parser = _parser("switch-on", "Take switch-off back for people who withdrew their request.")
    _subjects(parser)
    return _carried_out(
        lambda given: _shards(given).switch_on(read_subjects(given.subjects)),
        parser.parse_args(arguments),
    )


def status(arguments: Sequence[str]) -> int:
    """Check a folder and tell what is in force."""
    parser = _parser("status", "Check all of a folder that train made and tell what is in it.")
    return _carried_out(_status, parser.parse_args(arguments))


def export(arguments: Sequence[str]) -> int:
    """Write the adapters in force as PEFT reads them."""
    parser = _parser("export", "Write the adapters in force, one folder a shard, as PEFT's.")
    _model(parser)
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    return _carried_out(_export, parser.parse_args(arguments))


def destroy(arguments: Sequence[str]) -> int:
    """Destroy what is no longer in force, with a record."""
    parser = _parser(
        "destroy",
        "Destroy obsolete stages of sharded adapters, or a training in whose place another stands.",
    )
    parser.add_argument("--replaced-by", type=Path, metavar="NEW",
                        help="training without these people; for one with a trace")  # fmt: skip
    parser.add_argument("--record", type=Path, required=True, help="new file for the record")
    parser.add_argument("--confirm", action="store_true", help="there is no way back")
    return _carried_out(_destroy, parser.parse_args(arguments))


def _forget(given: argparse.Namespace) -> dict[str, Any]:
    subjects = read_subjects(given.subjects)
    if _form(given.folder) == SHARDS:
        if given.out or given.retrain:
            raise RequestError("Sharded adapters are changed in place. Leave --out, --retrain out.")
        made = ShardedAdapters(_load(given), given.folder, read_key(given.key))
        exact = not given.in_distribution
        result = made.forget(subjects, progress=Meter(sys.stderr), exact=exact)
    else:
        result = _made_again(given, subjects)
    sys.stderr.write(textwrap.fill(REMINDER, WIDTH) + "\n")
    return result


def _made_again(given: argparse.Namespace, subjects: Sequence[str]) -> dict[str, Any]:
    if given.out is None:
        raise RequestError("Give a new folder with --out. The old one is left as it is.")
    old = open_trace(given.folder)
    kept = checkpoints(old)
    lm, whole = _load(given), given.retrain or given.in_distribution
    if not given.in_distribution:
        require_environment(old.header["environment"], environment(lm.device))
    again = retrain_without if whole else replay_without
    made = again(lm, given.folder, subjects, given.out, Meter(sys.stderr))
    return {
        "method": "full retrain" if whole else "filtered replay",
        "before": kept[-1].digest if kept else None,
        "after": made.digest,
        "trace": made.head,
        **made.details,
    }


def _cost(given: argparse.Namespace) -> dict[str, Any]:
    subjects = read_subjects(given.subjects)
    if _form(given.folder) == TRACED:
        return cost_without(given.folder, subjects)
    if given.model is None:
        raise RequestError("Give the base model with --model: its tokenizer is needed.")
    return ShardedAdapters(_load(given), given.folder, read_key(given.key)).cost(subjects)


def _status(given: argparse.Namespace) -> dict[str, Any]:
    if _form(given.folder) == SHARDS:
        return {"form": SHARDS, **_shards(given).status()}
    trace = open_trace(given.folder)
    kept, records = checkpoints(trace), records_of(trace).values()
    slots = [name for step in trace.steps for slot in step.slots for name in slot]
    return {
        "form": TRACED,
        **{name: trace.header[name] for name in ("model", "settings", "environment", "steps")},
        "steps_made": kept[-1].number if kept else 0,
        "records": len(records),
        "subjects": len({record.subject for record in records}),
        "places": len(slots),
        "places_left_empty": slots.count(EMPTY),
        "checkpoints": len([read_state(trace, one) for one in kept]),
        "digest": kept[-1].digest if kept else None,
        "trace": trace.heads[-1],
    }


def _export(given: argparse.Namespace) -> dict[str, Any]:
    made = ShardedAdapters(_load(given), given.folder, read_key(given.key))
    folders = made.export(given.out)
    return {"digest": made.manifest()["digest"], "folders": [folder.name for folder in folders]}


def _destroy(given: argparse.Namespace) -> dict[str, Any]:
    if not given.confirm:
        raise RequestError("There is no way back. Look at status first, then give --confirm.")
    if _form(given.folder) == SHARDS:
        if given.replaced_by:
            raise RequestError("Sharded adapters keep their folder. Leave --replaced-by out.")
        return destroy_obsolete(_shards(given), given.record)
    if given.replaced_by is None:
        raise RequestError("Give the training that stands in its place with --replaced-by.")
    return destroy_training(given.folder, given.replaced_by, given.record)


def _form(folder: Path) -> str:
    if (folder / STAGES).is_dir() and (folder / MANIFEST).is_file():
        return SHARDS
    if (folder / TRACE).is_file():
        return TRACED
    raise RequestError("This is no folder that train finished or began. Check the path.")


def _shards(given: argparse.Namespace) -> ShardedFolder:
    if _form(given.folder) != SHARDS:
        raise RequestError(
            "A training with a trace is one piece. Take its model or adapter out of service."
        )
    return ShardedFolder(given.folder, read_key(given.key))


def _load(given: argparse.Namespace) -> LanguageModel:
    return load(given.model, device=given.device, dtype=given.dtype)


def _carried_out(
    command: Callable[[argparse.Namespace], dict[str, Any]], given: argparse.Namespace
) -> int:
    def told() -> None:
        result = command(given)
        sys.stdout.write(json.dumps(result, ensure_ascii=False, indent=1) + "\n")

    return carried_out(told)


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m unlearning {name}", description=description)
    parser.add_argument("--folder", type=Path, required=True, help="folder that train made")
    parser.add_argument("--key", type=Path,
                        help=f"file of the shards' key; else {KEY_VARIABLE}")  # fmt: skip
    return parser


def _subjects(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--subjects", required=True, metavar="FILE",
                        help="subject ids, one a line; -: from the standard input")  # fmt: skip


def _model(parser: argparse.ArgumentParser, *, needed: bool = True) -> None:
    told = "folder of the base model" + ("" if needed else "; for sharded adapters")
    parser.add_argument("--model", type=Path, required=needed, help=told)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or split")
    parser.add_argument("--dtype", default="auto", help="auto or float32, as in the training")
