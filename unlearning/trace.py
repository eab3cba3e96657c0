"""The folder of a training that can be made again: trace, records and checkpoints.

trace.jsonl    written whole before the first step: what the training depends on, then per step its
               number, seed, learning rate and slots. Each line is chained to those before it by
               SHA-256. A record is named by a keyed digest of its id, an emptied slot by "".
key            the key of these digests
records.jsonl  the records themselves, {"id", "subject", "text"}
checkpoints/   weights and optimiser after some steps; checkpoints.jsonl lists them, chained too

The folder and its files can be read by their owner alone.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from language_models.errors import CheckpointError, NotReached, RequestError
from language_models.files import sync
from unlearning.deterministic import Step, digest
from unlearning.records import read_records, write_records

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

    from unlearning.records import Record

FORMAT = "lethe-training-1"
TRACE, KEY, RECORDS = "trace.jsonl", "key", "records.jsonl"
LIST, STATES = "checkpoints.jsonl", "checkpoints"
EMPTY = ""


@dataclass(frozen=True)
class Trace:
    """A verified training folder.

    header: what each step depends on beside its own line. heads[n]: the SHA-256 of the chain up to
    step n; heads[0] is that of the header.
    """

    folder: Path
    key: bytes
    header: dict[str, Any]
    steps: tuple[Step, ...]
    heads: tuple[str, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as the list names it; digest: SHA-256 of weights and optimiser."""

    number: int
    digest: str


def identifier(key: bytes, record_id: str) -> str:
    """Return what the trace calls a record: an HMAC-SHA256 of its id, 128 bits."""
    return hmac.new(key, record_id.encode(), hashlib.sha256).hexdigest()[:32]


def create(
    folder: Path,
    key: bytes,
    header: Mapping[str, Any],
    steps: Sequence[Step],
    records: Sequence[Record],
) -> Trace:
    """Write the folder, whole or not at all; it must not exist yet.

    Raises RequestError for records without an id of their own, a subject or a text.
    """
    if folder.exists():
        raise RequestError(f"The folder {folder.name} exists already. Choose a new name.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".training-", dir=folder.parent) as work:
            inside = Path(work) / "training"
            inside.mkdir(mode=0o700)
            (inside / STATES).mkdir(mode=0o700)
            _write(inside / KEY, key)
            write_records(inside / RECORDS, records)
            read_records(inside / RECORDS)  # what could not be read again is refused now
            sealed = _seal(key, (inside / RECORDS).read_bytes())
            told = {"format": FORMAT, **header, "steps": len(steps), "records": sealed}
            _write(inside / TRACE, _chained([told, *(asdict(step) for step in steps)]))
            _write(inside / LIST, b"")
            inside.rename(folder)
        sync(folder.parent)
    except OSError as error:
        raise NotReached("The folder cannot be written. Is the disk full?") from error
    return open_trace(folder)


def open_trace(folder: Path) -> Trace:
    """Read and verify a training folder; CheckpointError when it was changed."""
    try:
        key = (folder / KEY).read_bytes()
        lines, heads = _read_chain((folder / TRACE).read_bytes())
        header, steps = lines[0], tuple(_step(line) for line in lines[1:])
        sealed = _seal(key, (folder / RECORDS).read_bytes())
        if header["format"] != FORMAT or header["steps"] != len(steps):
            raise _changed(TRACE)
        if header["records"] != sealed:
            raise _changed(RECORDS)
    except FileNotFoundError as error:
        raise RequestError(
            "This is not the folder of a training of ours. Check the path."
        ) from error
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise _changed(TRACE) from error
    return Trace(folder, key, header, steps, tuple(heads))


def records_of(trace: Trace) -> dict[str, Record]:
    """Return the records by the name that the trace gives them, in the order of their file."""
    records = read_records(trace.folder / RECORDS)
    return {identifier(trace.key, record.id): record for record in records}


def checkpoints(trace: Trace) -> list[Checkpoint]:
    """Return the listed checkpoints, oldest first; CheckpointError when the list was changed."""
    try:
        lines, _ = _read_chain((trace.folder / LIST).read_bytes())
        for line in lines:
            if line["head"] != trace.heads[line["number"]]:
                raise _changed(LIST)
        return [Checkpoint(line["number"], line["state"]) for line in lines]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise _changed(LIST) from error


def keep_state(trace: Trace, number: int, state: Mapping[str, Tensor]) -> Checkpoint:
    """Write the state after a step, durably, and then list it.

    Raises NotReached when the disk has no room; what was kept before stays as it was.
    """
    path = _path(trace, number)
    work = path.with_name(f".{path.name}.{os.getpid()}")
    made = Checkpoint(number, digest(state))
    listed = [one for one in checkpoints(trace) if one.number < number]
    lines = [{"number": one.number, "state": one.digest, "head": trace.heads[one.number]}
             for one in [*listed, made]]  # fmt: skip
    try:
        save_file(dict(state), work, metadata={"format": FORMAT})
        work.chmod(0o600)
        sync(work)
        work.replace(path)
        sync(path.parent)
        _write(trace.folder / LIST, _chained(lines))
    except (OSError, SafetensorError) as error:
        raise NotReached(
            "A checkpoint cannot be written. Is the disk full? Make room, then go on with --resume."
        ) from error
    finally:
        work.unlink(missing_ok=True)
    return made


def read_state(trace: Trace, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return a kept state; CheckpointError when it was changed."""
    path = _path(trace, checkpoint.number)
    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise _changed(path.name) from error
    if digest(state) != checkpoint.digest:
        raise _changed(path.name)
    return state


def _path(trace: Trace, number: int) -> Path:
    return trace.folder / STATES / f"{number:08}.safetensors"


def _step(line: dict[str, Any]) -> Step:
    slots = tuple(tuple(slot) for slot in line["slots"])
    return Step(line["number"], line["seed"], line["learning_rate"], slots)


def _chained(contents: Iterable[Mapping[str, Any]]) -> bytes:
    lines, head = [], ""
    for content in contents:
        head = _next(head, content)
        lines.append(json.dumps({"content": content, "sha256": head}) + "\n")
    return "".join(lines).encode()


def _read_chain(text: bytes) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the lines' contents and the chain's head after each; ValueError where it breaks."""
    contents, heads = [], [""]
    for line in text.decode().splitlines():
        row = json.loads(line)
        if row["sha256"] != _next(heads[-1], row["content"]):
            raise ValueError("the chain is broken")
        contents.append(row["content"])
        heads.append(row["sha256"])
    return contents, heads[1:]


def _next(head: str, content: Mapping[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{head}{canonical}".encode()).hexdigest()


def _seal(key: bytes, content: bytes) -> str:
    """Return a keyed digest: without the key it tells nothing of what is in the file."""
    return hmac.new(key, content, hashlib.sha256).hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Write a file that its owner alone can read, whole or not at all."""
    work = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(work, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        sync(work)
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)
    sync(path.parent)


def _changed(name: str) -> CheckpointError:
    return CheckpointError(f"{name} is missing or was changed. Restore the folder of the training.")
