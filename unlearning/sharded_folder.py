"""The folder of sharded adapters, as far as no model is needed: who is in it, what is switched off.

manifest.json      the version in force (unlearning.manifest)
records-*.jsonl    the records it was trained on, {"id", "subject", "text"}
stages/            those in force, and earlier ones until they are destroyed (unlearning.stages)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from language_models.errors import CheckpointError, RequestError
from unlearning import shards
from unlearning.guarantee import guarantee
from unlearning.manifest import NAME, Manifest, alone, read_manifest, write_manifest
from unlearning.records import Record, read_records
from unlearning.stages import StageStore

if TYPE_CHECKING:
    from collections.abc import Iterable

STAGES = "stages"


class ShardedFolder:
    """The folder and the key that decides who goes where. Keep the key as secret as the records.

    Raises RequestError for another key than recorded, CheckpointError for files that were changed.
    """

    def __init__(self, folder: str | Path, key: bytes) -> None:
        shards.check_key(key)
        self.folder, self.key = Path(folder), key
        self.store = StageStore(self.folder / STAGES, key)

    def manifest(self) -> dict[str, Any]:
        """Return the version in force as JSON values without any text, name or subject id."""
        return self._in_force().told()

    def status(self) -> dict[str, Any]:
        """Return what is in force, after all of it was read and found to be whole.

        pending: how many asked and are still in the weights. removed: how many were taken out.
        Raises CheckpointError when a stage or the records are missing or were changed.
        """
        manifest = self._in_force()
        self._records()
        for stage in manifest.stages:
            self.store.read(stage.address, stage.sha256)
        told = manifest.told()
        told["class"] = told.pop("guarantee")
        counts = {name: len(told[name]) for name in ("stages", "pending", "removed")}
        return {**told, **counts, "obsolete_files": len(self.obsolete())}

    def switch_off(self, subjects: Iterable[str]) -> dict[str, Any]:
        """Leave the shards of subjects out of all answers until they are taken out.

        The weights still hold the subjects (class C), and the others of these shards are not
        answered from them either: `subjects_off` counts both.
        """
        self._in_force()
        with alone(self.folder):
            asked = self._asked(subjects)
            present = {record.subject for record in self._records()}
            pending = {self._digest(one): self._shard(one) for one in asked & present}
            told = self._pend({**self._in_force().pending, **pending})
        return {"requests": len(asked), **told, "guarantee": guarantee("C").as_dict()}

    def switch_on(self, subjects: Iterable[str]) -> dict[str, Any]:
        """Take back `switch_off` for subjects whose request was withdrawn."""
        self._in_force()
        with alone(self.folder):
            asked = self._asked(subjects)
            withdrawn = {self._digest(subject) for subject in asked}
            pending = self._in_force().pending
            told = self._pend({one: at for one, at in pending.items() if one not in withdrawn})
        return {"requests": len(asked), **told}

    def obsolete(self) -> list[Path]:
        """Return what is here beside the version in force; some may hold who was removed.

        Earlier stages, and what a process that was killed left of its writing.
        """
        manifest = self._in_force()
        kept = {self.store.path(stage.address) for stage in manifest.stages}
        kept.add(self._records_path(manifest))
        patterns = (f"{STAGES}/*", "records-*.jsonl", ".records-*", f".{NAME}.*")
        return sorted({path for one in patterns for path in self.folder.glob(one)} - kept)

    def _records(self) -> list[Record]:
        """Return the records in force."""
        manifest = self._in_force()
        if not manifest.subjects:
            return []
        records = list(read_records(self._records_path(manifest)))
        if self._records_digest(records) != manifest.records:
            raise CheckpointError(
                "The file of records is not the one that the adapters were trained on. Restore it."
            )
        return records

    def _pend(self, pending: dict[str, int]) -> dict[str, Any]:
        manifest = replace(self._in_force(), pending=pending)
        write_manifest(self.folder, self.key, manifest)
        subjects = {record.subject for record in self._records()}
        off = [one for one in subjects if self._shard(one) in manifest.switched_off]
        return {"switched_off": sorted(manifest.switched_off), "subjects_off": len(off)}

    def _asked(self, subjects: Iterable[str]) -> set[str]:
        """Return the subjects of a batch; raise RequestError for none or for unknown ones."""
        asked = set(subjects)
        if not asked:
            raise RequestError("Name at least one subject.")
        known = {record.subject for record in self._records()}
        removed = set(self._in_force().removed)
        unknown = [one for one in asked - known if self._digest(one) not in removed]
        if unknown:
            raise RequestError(
                f"{len(unknown)} of {len(asked)} subjects were never in these adapters. Check the"
                " ids."
            )
        return asked

    def _digest(self, subject: str) -> str:
        return shards.subject_digest(self.key, subject)

    def _shard(self, subject: str) -> int:
        sizes = self._in_force().settings
        return shards.place(self.key, subject, sizes["shards"], sizes["slices"]).shard

    def _records_digest(self, records: Iterable[Record]) -> str:
        rows = [(one.id, one.subject, one.text) for one in records]
        return shards.keyed(self.key, "records", rows).hex()

    def _records_path(self, manifest: Manifest) -> Path:
        return self.folder / f"records-{manifest.records[:16]}.jsonl"

    def _in_force(self) -> Manifest:
        manifest = read_manifest(self.folder, self.key)
        if manifest is None:
            raise RequestError("Nothing was trained in this folder yet. Train first.")
        return manifest
