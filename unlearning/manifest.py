"""The manifest of sharded adapters: which stages are in force, on what, made where.

One file, replaced whole, sealed by key. It names no subject: digests by key stand for those who
asked and for those whose records are gone, so that these are refused if they are brought back.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from language_models.errors import CheckpointError, RequestError
from language_models.files import sync, write_json
from unlearning.shards import fingerprint, keyed
from unlearning.stages import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT = "lethe-shards-1"
NAME = "manifest.json"
LOCK = ".lock"


@dataclass(frozen=True)
class Stage:
    """One stage in force. records: how many it trained on; seen: how often it saw one of them."""

    shard: int
    slice: int
    address: str
    sha256: str
    environment: str
    records: int
    seen: int


@dataclass(frozen=True)
class Manifest:
    """A version of the adapters.

    environment: where its newest stages were made; a stage has the digest of its own. records:
    keyed digest of the file of records. pending: shard by keyed digest of a subject who asked and
    whose records are still in the weights. removed: keyed digests of the subjects taken out.
    """

    base: str
    settings: dict[str, Any]
    environment: dict[str, Any]
    records: str
    subjects: int
    version: int = 1
    stages: tuple[Stage, ...] = ()
    pending: dict[str, int] = field(default_factory=dict)
    removed: tuple[str, ...] = ()

    @property
    def guarantee(self) -> str:
        """A, or A′ when the stages were not all made in one environment."""
        return "A" if len({stage.environment for stage in self.stages}) < 2 else "A′"

    @property
    def digest(self) -> str:
        """The SHA-256 over all stages in force, which names the weights of this version."""
        return digest_of([(stage.shard, stage.slice, stage.sha256) for stage in self.stages])

    @property
    def final(self) -> dict[int, Stage]:
        """The last stage of each shard that has records, by shard in order."""
        return {stage.shard: stage for stage in self.stages}

    @property
    def switched_off(self) -> set[int]:
        """The shards that hold somebody who asked."""
        return set(self.pending.values())

    def told(self) -> dict[str, Any]:
        """Return the manifest as JSON values, with what follows from it."""
        derived = {
            "guarantee": self.guarantee,
            "digest": self.digest,
            "switched_off": sorted(self.switched_off),
        }
        return {**json.loads(json.dumps(asdict(self))), **derived}


def read_manifest(folder: Path, key: bytes) -> Manifest | None:
    """Read the manifest of a folder, or return None where there is none.

    Raises RequestError for another key, CheckpointError when the file was changed.
    """
    try:
        told = json.loads((folder / NAME).read_text(encoding="utf-8"))
        made_with, content, seal = told["key"], told["manifest"], told["seal"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _tampered() from error
    if made_with != fingerprint(key):
        raise RequestError("These adapters were made with another key. Give that key.")
    if told.get("format") != FORMAT or not hmac.compare_digest(str(seal), _seal(key, content)):
        raise _tampered()
    stages = tuple(Stage(**row) for row in content.pop("stages"))
    return Manifest(stages=stages, removed=tuple(content.pop("removed")), **content)


def write_manifest(folder: Path, key: bytes, manifest: Manifest) -> None:
    """Put a manifest in force, whole or not at all."""
    content = json.loads(json.dumps(asdict(manifest)))
    whole = {
        "format": FORMAT,
        "key": fingerprint(key),
        "manifest": content,
        "seal": _seal(key, content),
    }
    work = folder / f".{NAME}.{os.getpid()}"
    try:
        write_json(work, whole)
        sync(work)
        work.replace(folder / NAME)
    finally:
        work.unlink(missing_ok=True)
    sync(folder)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes from changing a folder meanwhile; raise RequestError if one does."""
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RequestError(
                "Another process is changing these adapters. Wait until it has ended."
            ) from None
        yield


def _seal(key: bytes, content: dict[str, Any]) -> str:
    return keyed(key, "manifest", digest_of(content)).hex()


def _tampered() -> CheckpointError:
    return CheckpointError(
        "The manifest of the adapters was changed or damaged. Restore it from a backup, or train"
        " in a new folder."
    )
