"""Content-addressed files under var/store: sealed artefacts, datasets and model versions.

A file appears whole or not at all: temporary name, fsync, rename, fsync of the folder. A sealed
artefact is named by the SHA-256 of its ciphertext, so that its name tells nothing of its content.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from typing import TYPE_CHECKING, Any

from django.conf import settings

from . import vault

if TYPE_CHECKING:
    from pathlib import Path


class StoreError(Exception):
    """A stored file is missing or is not what its name says."""


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_file(path: Path) -> str:
    """SHA-256 (hex) of a file, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def artefact_path(digest: str) -> Path:
    return settings.STORE_DIR / "artefacts" / digest[:2] / digest


def model_path(digest: str) -> Path:
    return settings.STORE_DIR / "models" / digest


def dataset_path(digest: str) -> Path:
    return settings.STORE_DIR / "datasets" / f"{digest}.sealed"


def _write_whole(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with temporary.open("xb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.rename(path)
    _sync_folder(path.parent)


def put_sealed(sealed: bytes) -> str:
    """Keep bytes that are sealed already; returns their digest."""
    digest = hashlib.sha256(sealed).hexdigest()
    path = artefact_path(digest)
    if not path.exists():
        _write_whole(path, sealed)
    return digest


def put(plain: bytes) -> str:
    """Seal and keep; returns the digest of the ciphertext."""
    return put_sealed(vault.seal(plain))


def get(digest: str) -> bytes:
    """The plain bytes of a sealed artefact. Raises StoreError when missing or changed."""
    try:
        sealed = artefact_path(digest).read_bytes()
    except FileNotFoundError:
        raise StoreError("A stored artefact is missing. Restore var/store from a backup.") from None
    if hashlib.sha256(sealed).hexdigest() != digest:
        raise StoreError("A stored artefact was changed on disk.")
    return vault.unseal(sealed)


def put_json(value: Any) -> str:
    return put(json.dumps(value, ensure_ascii=False, sort_keys=True).encode())


def get_json(digest: str) -> Any:
    return json.loads(get(digest))


def put_dataset(records: bytes) -> str:
    """Keep a dataset sealed, named by the SHA-256 of its plain JSONL."""
    digest = hashlib.sha256(records).hexdigest()
    path = dataset_path(digest)
    if not path.exists():
        _write_whole(path, vault.seal(records))
    return digest


def get_dataset(digest: str) -> bytes:
    """The JSONL of a dataset version. Raises StoreError when missing or changed."""
    try:
        records = vault.unseal(dataset_path(digest).read_bytes())
    except FileNotFoundError:
        raise StoreError("A dataset version is missing. Restore var/store from a backup.") from None
    if hashlib.sha256(records).hexdigest() != digest:
        raise StoreError("A dataset version was changed on disk.")
    return records


def adopt_model(folder: Path, digest: str) -> Path:
    """Move a complete model folder into the store under its manifest digest."""
    target = model_path(digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(folder)
        return target
    for file in folder.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    _sync_folder(folder)
    folder.rename(target)
    _sync_folder(target.parent)
    return target


def remove_artefact(digest: str) -> None:
    """Remove a sealed artefact; one that is gone already is fine."""
    artefact_path(digest).unlink(missing_ok=True)


def remove_dataset(digest: str) -> None:
    """Remove a dataset version's file."""
    dataset_path(digest).unlink(missing_ok=True)


def remove_model(digest: str) -> None:
    """Remove a model version's folder; one that is gone already is fine."""
    if model_path(digest).is_dir():
        shutil.rmtree(model_path(digest))


def remove_work(job_id: str) -> None:
    """Remove what the attempts of a job left behind; a killed one leaves weights there."""
    folder = settings.WORK_DIR / job_id
    if folder.is_dir():
        shutil.rmtree(folder)
