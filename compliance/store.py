"""Content-addressed files under var/store: sealed artefacts, datasets and model versions.

A file appears whole or not at all: temporary name, fsync, rename, fsync of the folder. A sealed
artefact is named by the SHA-256 of its ciphertext, so that its name tells nothing of its content.
Which model version serves is a link, `serving.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

from django.conf import settings

from . import envelope, tombstones, vault
from .durable import sync_folder, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .envelope import DataKey

# A file under a temporary name that is older than this was left by a process that died.
ORPHAN_SECONDS = 6 * 3600


class StoreError(Exception):
    """A stored file is missing or is not what its name says."""


def sha256_file(path: Path) -> str:
    """SHA-256 (hex) of a file, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def artefact_path(digest: str) -> Path:
    return settings.STORE_DIR / "artefacts" / digest[:2] / digest


def model_path(digest: str) -> Path:
    return settings.STORE_DIR / "models" / digest


def dataset_paths(digest: str) -> list[Path]:
    """The sealed copies of a dataset version, named by the digest of its plain JSONL and its key.

    There is one, unless an attempt at writing it failed: each attempt has a key and a file of its
    own, so that a worker that was taken for dead cannot write over what another one recorded.
    """
    return sorted((settings.STORE_DIR / "datasets").glob(f"{digest}.*.sealed"))


def put_sealed(sealed: bytes) -> str:
    """Keep bytes that are sealed already; returns their digest."""
    digest = hashlib.sha256(sealed).hexdigest()
    path = artefact_path(digest)
    if not path.exists():
        write_whole(path, sealed)
    return digest


def put(plain: bytes, key: DataKey) -> str:
    """Seal under the key and keep; returns the digest of the ciphertext."""
    return put_sealed(vault.seal(plain, key))


def get(digest: str) -> bytes:
    """The plain bytes of a sealed artefact. Raises StoreError when missing or changed."""
    try:
        sealed = artefact_path(digest).read_bytes()
    except FileNotFoundError:
        raise StoreError("A stored artefact is missing. Restore var/store from a backup.") from None
    if hashlib.sha256(sealed).hexdigest() != digest:
        raise StoreError("A stored artefact was changed on disk.")
    return vault.unseal(sealed)


def put_json(value: Any, key: DataKey) -> str:
    return put(json.dumps(value, ensure_ascii=False, sort_keys=True).encode(), key)


def get_json(digest: str) -> Any:
    return json.loads(get(digest))


def put_dataset(records: bytes) -> str:
    """Keep a dataset sealed under a key of its own, named by the SHA-256 of its plain JSONL."""
    digest = hashlib.sha256(records).hexdigest()
    if not _readable(digest):
        key = vault.new_dataset_key()
        path = settings.STORE_DIR / "datasets" / f"{digest}.{key.id}.sealed"
        write_whole(path, vault.seal(records, key))
    return digest


def _readable(digest: str) -> list[Path]:
    """Copies whose key is there; another was left by a transaction that failed."""
    return [path for path in dataset_paths(digest) if vault.is_open(_key_name(path))]


def get_dataset(digest: str) -> bytes:
    """The JSONL of a dataset version. Raises StoreError when missing, changed or taken back."""
    refuse_taken_back(digest)
    copies = _readable(digest)
    if not copies:
        raise StoreError("A dataset version is missing. Restore var/store from a backup.")
    records = vault.unseal(copies[0].read_bytes())
    if hashlib.sha256(records).hexdigest() != digest:
        raise StoreError("A dataset version was changed on disk.")
    return records


def refuse_taken_back(digest: str, organisation: str | None = None) -> None:
    """Raise StoreError for a version that a shredded case had changed: a backup brought it back."""
    stone = tombstones.of_version(digest, organisation)
    if stone is not None:
        raise StoreError(
            f"This version still holds what case {stone.case} took out of it; a backup brought it "
            "back. Restore a backup that is newer than the closing of that case."
        )


def adopt_model(folder: Path, digest: str) -> Path:
    """Move a complete model folder into the store under its manifest digest; again is fine."""
    target = model_path(digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(folder, ignore_errors=True)
        return target
    for file in folder.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    sync_folder(folder)
    try:
        folder.rename(target)
    except OSError:
        if not target.exists():
            raise
        # Somebody else brought the same content meanwhile.
        shutil.rmtree(folder, ignore_errors=True)
    sync_folder(target.parent)
    return target


def remove_artefact(digest: str) -> None:
    """Remove a sealed artefact; one that is gone already is fine."""
    artefact_path(digest).unlink(missing_ok=True)


def remove_dataset(digest: str) -> None:
    """Destroy the key of a dataset version, then remove its file."""
    for path in dataset_paths(digest):
        name = _key_name(path)
        if name is not None and vault.is_open(name):
            vault.destroy(name)
        path.unlink(missing_ok=True)


def remove_model(digest: str) -> None:
    """Remove a model version's folder; one that is gone already is fine."""
    if model_path(digest).is_dir():
        shutil.rmtree(model_path(digest))


def remove_work(job_id: str) -> None:
    """Remove what the attempts of a job left behind; a killed one leaves weights there."""
    folder = settings.WORK_DIR / job_id
    if folder.is_dir():
        shutil.rmtree(folder)


def _key_name(path: Path) -> str | None:
    try:
        with path.open("rb") as handle:
            return envelope.key_name(handle.read(envelope.LONGEST_HEADER))
    except (FileNotFoundError, envelope.SealError):
        return None


def _artefacts() -> Iterator[Path]:
    return (path for path in (settings.STORE_DIR / "artefacts").glob("??/*") if path.is_file())


def sealed_under(keys: set[str]) -> list[Path]:
    """Every artefact sealed under one of the keys, also those no row names."""
    return [path for path in _artefacts() if _key_name(path) in keys]


def sweep_orphans(live_jobs: set[str]) -> int:
    """Remove what dead processes left: old temporary files, and work of jobs that are not live."""
    limit = time.time() - ORPHAN_SECONDS
    aside = [
        *settings.STORE_DIR.rglob(".*"),
        *settings.STORE_DIR.glob("models/*.incoming"),
        *settings.CHECKPOINT_DIR.glob(".*"),
        *settings.KEY_DIR.rglob(".*.????????"),
    ]
    copies = (settings.STORE_DIR / "datasets").glob("*.sealed")
    # Not those of unknown keys: they may belong to a newer database than the one restored.
    aside += [path for path in copies if vault.is_destroyed(_key_name(path))]
    left = [path for path in aside if path.lstat().st_mtime < limit]
    left += [
        path
        for path in settings.WORK_DIR.iterdir()
        if path.name not in live_jobs and path.lstat().st_mtime < limit
    ]
    for path in left:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(left)
