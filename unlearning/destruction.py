"""The destruction of weights and records that are no longer in force: a job with its own record.

Old weights beside new ones tell more of who was taken out than either (Wu et al. 2025), so exact
unlearning is not done before they are gone. The record is written before the first file goes, and
closed after the last, so a destruction that was stopped is seen. It holds no text and no id.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from language_models.errors import CheckpointError, RequestError
from language_models.files import sha256_of, sync, write_json
from unlearning.manifest import alone
from unlearning.trace import (
    FORMAT,
    KEY,
    LIST,
    RECORDS,
    STATES,
    TRACE,
    checkpoints,
    open_trace,
    read_state,
)
from unlearning.training import ADAPTER, MODEL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from unlearning.sharded_folder import ShardedFolder
    from unlearning.trace import Trace

LIMITS = (
    "The files were taken off this file system. What the device keeps of their blocks, and copies"
    " and backups elsewhere, are outside of this record.",
    "Weights that were published or handed on cannot be recalled.",
)
# The trace is the last to go: with it, a destruction that was stopped can be asked for again.
OF_A_TRAINING = (MODEL, ADAPTER, STATES, LIST, RECORDS, KEY, TRACE)
WEIGHTS = ".safetensors"


@dataclass
class _Record:
    """What is destroyed, from when to when, and what is in force instead."""

    path: Path
    kind: str
    in_force: str
    begun: str = field(default_factory=lambda: _now())
    ended: str | None = None
    files: list[dict[str, Any]] = field(default_factory=list)

    def write(self) -> dict[str, Any]:
        told = {
            "destroyed": self.kind,
            "in_force": self.in_force,
            "begun": self.begun,
            "ended": self.ended,
            "files": self.files,
            "limits": list(LIMITS),
        }
        work = self.path.with_name(f".{self.path.name}.writing")
        write_json(work, told)
        sync(work)
        work.replace(self.path)
        sync(self.path.parent)
        return told


def destroy_obsolete(folder: ShardedFolder, record: Path) -> dict[str, Any]:
    """Destroy what is in the folder of sharded adapters beside the version in force.

    record: the file to write the record to, which must not exist. Returns what is in it. Raises
    RequestError, before anything is destroyed, when there is nothing to destroy.
    """
    _require_new(record)
    folder.manifest()
    with alone(folder.folder):
        found, manifest = folder.obsolete(), folder.manifest()
        if not found:
            raise RequestError("Nothing here is obsolete, so there is nothing to destroy.")
        kept = _Record(record, "obsolete stages of sharded adapters", manifest["digest"])
        return _destroyed(kept, folder.folder, found)


def destroy_training(folder: Path, replacement: Path, record: Path) -> dict[str, Any]:
    """Destroy the folder of a traced training in whose place another one stands.

    replacement: the finished training without those who were taken out. Raises RequestError or
    CheckpointError, before anything is destroyed, unless it is whole and made with the same
    settings from the same model, and when the folder holds files of something else.
    """
    _require_new(record)
    header = _header(folder)
    new = open_trace(replacement)
    if folder.resolve() == replacement.resolve():
        raise RequestError("The training that stays is the one to destroy. Check the folders.")
    if any(header[name] != new.header[name] for name in ("settings", "model", "steps")):
        raise RequestError("The training that stays is of another model or has other settings.")
    _require_finished(new)
    others = sorted(one.name for one in folder.iterdir() if not _is_of_a_training(one.name))
    if others:
        raise RequestError(
            f"{len(others)} entries of the folder are not of a training. Take them out first."
        )
    kept = _Record(record, "a traced training", checkpoints(new)[-1].digest)
    found = [folder / name for name in OF_A_TRAINING if (folder / name).exists()]
    left_over = [one for one in folder.iterdir() if one not in found]
    told = _destroyed(kept, folder, [*left_over, *found])
    folder.rmdir()
    sync(folder.resolve().parent)
    return told


def _destroyed(record: _Record, folder: Path, found: Sequence[Path]) -> dict[str, Any]:
    """Delete the entries in this order; the record is there before and complete after."""
    inner = [path for one in found for path in (sorted(one.rglob("*")) if one.is_dir() else [one])]
    record.files = [_told(path, folder) for path in inner if path.is_file()]
    record.write()
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
        sync(path.parent)
    record.ended = _now()
    return record.write()


def _told(path: Path, folder: Path) -> dict[str, Any]:
    """Return the name and size of a file; of weights the digest too, which tells no text."""
    told: dict[str, Any] = {"name": str(path.relative_to(folder)), "bytes": path.stat().st_size}
    return {**told, "sha256": sha256_of(path)} if path.suffix == WEIGHTS else told


def _header(folder: Path) -> dict[str, Any]:
    """Return the first line of a trace, also where other files are damaged or gone already."""
    try:
        with (folder / TRACE).open(encoding="utf-8") as lines:
            header: dict[str, Any] = json.loads(next(lines))["content"]
        if header["format"] == FORMAT:
            return header
    except FileNotFoundError:
        raise RequestError("This is not the folder of a traced training. Check the path.") from None
    except (OSError, ValueError, LookupError, TypeError, StopIteration) as error:
        raise _unreadable() from error
    raise _unreadable()


def _require_finished(trace: Trace) -> None:
    kept = checkpoints(trace)
    written = any((trace.folder / name).is_dir() for name in (MODEL, ADAPTER))
    if not (written and kept and kept[-1].number == len(trace.steps)):
        raise RequestError("The training that stays is not finished. Finish it first.")
    read_state(trace, kept[-1])


def _is_of_a_training(name: str) -> bool:
    """Whether training of ours leaves such an entry, or did when it was stopped."""
    own = tuple(f".{one}." for one in (TRACE, KEY, LIST, RECORDS))
    return name in OF_A_TRAINING or name.startswith((".adapter-", ".saving-", *own))


def _require_new(record: Path) -> None:
    if record.exists():
        raise RequestError(f"The record {record.name} exists already. Choose a new name.")
    if not record.resolve().parent.is_dir():
        raise RequestError("The folder of the record does not exist. Make it first.")


def _unreadable() -> CheckpointError:
    return CheckpointError("The trace of this training cannot be read. Delete the folder by hand.")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
