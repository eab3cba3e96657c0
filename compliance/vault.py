"""Personal data at rest: a data key for each case, wrapped by a key that is a file elsewhere.

Whoever holds the key files and a copy of the database reads everything; whoever loses the key
files loses it. Destroying a case's data key makes unreadable what was sealed under it, in every
copy of the store; a tombstone beside the key files keeps a restored database from undoing that.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from . import envelope, key_files, tombstones
from .envelope import DataKey, SealError
from .models import data_key as rows
from .models.data_key import KeyPurpose

if TYPE_CHECKING:
    from pathlib import Path

    from .models import Case

DESTROYED = "The key of this data was destroyed; it can no longer be read."
# Unwrapped keys of this process, so that a page does not ask for one again for each row.
_KEPT_SECONDS = 5.0
_unwrapped: dict[str, tuple[float, DataKey]] = {}


def kek_folder() -> Path:
    return settings.KEY_DIR / "vault"


# --- Keys ---


def _make(purpose: KeyPurpose, case: Case | None = None) -> DataKey:
    name = key_files.current_name(kek_folder())
    row = rows.DataKey(purpose=purpose, case=case, kek=name, created_at=timezone.now())
    made = DataKey(str(row.pk), AESGCM.generate_key(bit_length=256))
    row.wrapped = envelope.wrap(key_files.read_key(kek_folder(), name), made)
    row.save(force_insert=True)
    return made


def _open(row: rows.DataKey) -> DataKey:
    if row.destroyed_at is not None or tombstones.is_destroyed(str(row.pk)):
        _unwrapped.pop(str(row.pk), None)
        raise SealError(DESTROYED)
    kek = key_files.read_key(kek_folder(), row.kek)
    opened = envelope.unwrap(kek, row.wrapped, str(row.pk))
    _unwrapped[opened.id] = (time.monotonic(), opened)
    return opened


def _still_open(name: str) -> DataKey | None:
    """A key that this process unwrapped a moment ago, unless a tombstone has come since."""
    kept = _unwrapped.get(name)
    if kept is None or time.monotonic() - kept[0] > _KEPT_SECONDS or tombstones.is_destroyed(name):
        return None
    return kept[1]


def key_of(case: Case) -> DataKey:
    """The case's key, made when it is first needed. Raises SealError once it is destroyed."""
    row = rows.DataKey.objects.filter(case=case).first()
    if row is not None:
        return _open(row)
    try:
        with transaction.atomic():
            return _make(KeyPurpose.CASE, case)
    except IntegrityError:  # another process made it just now
        return _open(rows.DataKey.objects.get(case=case))


def _one(purpose: KeyPurpose) -> DataKey:
    row = rows.DataKey.objects.filter(purpose=purpose).first()
    if row is not None:
        return _open(row)
    try:
        with transaction.atomic():
            return _make(purpose)
    except IntegrityError:
        return _open(rows.DataKey.objects.get(purpose=purpose))


def house_key() -> DataKey:
    """The key of what belongs to no case: reports, wordings, a secret waiting to be shown."""
    return _one(KeyPurpose.HOUSE)


def new_dataset_key() -> DataKey:
    """A key for one version of a dataset, to be destroyed with it."""
    return _make(KeyPurpose.DATASET)


def new_duty_key() -> DataKey:
    """A key for the questions of one duty, to be destroyed when it ends."""
    return _make(KeyPurpose.DUTY)


def key_named(name: str) -> DataKey:
    """The data key of this name. Raises SealError once it is destroyed."""
    return _open(rows.DataKey.objects.get(pk=UUID(name)))


def is_open(name: str | None) -> bool:
    """Whether a data key of this name is there and was not destroyed."""
    try:
        found = rows.DataKey.objects.filter(pk=UUID(name or ""), destroyed_at__isnull=True)
    except ValueError:
        return False
    return found.exists() and not tombstones.is_destroyed(str(name))


def is_destroyed(name: str | None) -> bool:
    """Whether a data key of this name is known to be destroyed; one that is unknown is not."""
    try:
        found = rows.DataKey.objects.filter(pk=UUID(name or ""), destroyed_at__isnull=False)
    except ValueError:
        return False
    return found.exists() or tombstones.is_destroyed(str(name))


def destroy(name: str) -> None:
    """Destroy a data key; one that is destroyed or unknown already is fine.

    Runs in the caller's transaction. The row is written over; the database's own traces of the
    old content are the business of `shredding.scrub_database`.
    """
    _unwrapped.pop(name, None)
    rows.DataKey.objects.filter(pk=name, destroyed_at__isnull=True).update(
        wrapped="", destroyed_at=timezone.now()
    )


@transaction.atomic
def rotate() -> tuple[str, int]:
    """Wrap every data key anew under a fresh key-encryption key; returns its name and how many.

    Nothing stops meanwhile: rows name the key that wraps them, and the former key file stays
    until it is removed by hand. Sealed files do not change.
    """
    name = key_files.new_key(kek_folder())
    fresh = key_files.read_key(kek_folder(), name)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            # Waits for keys being made under the former one, so that none is missed.
            cursor.execute("LOCK TABLE compliance_datakey IN SHARE ROW EXCLUSIVE MODE")
    others = rows.DataKey.objects.filter(destroyed_at__isnull=True).exclude(kek=name)
    changed = 0
    for row in others:
        opened = envelope.unwrap(
            key_files.read_key(kek_folder(), row.kek), row.wrapped, str(row.pk)
        )
        # Compare and set: a key destroyed meanwhile must not come back.
        changed += rows.DataKey.objects.filter(pk=row.pk, wrapped=row.wrapped).update(
            kek=name, wrapped=envelope.wrap(fresh, opened)
        )
    return name, changed


def unused_keks() -> list[str]:
    """Key files that wrap no data key any more and may be removed."""
    used = set(rows.DataKey.objects.filter(destroyed_at__isnull=True).values_list("kek", flat=True))
    used.add(key_files.current_name(kek_folder()))
    return sorted(path.stem for path in kek_folder().glob("*.key") if path.stem not in used)


# --- Seal and unseal ---


def seal(plain: bytes, key: DataKey) -> bytes:
    """Encrypt under a data key."""
    return envelope.seal(key, plain)


def unseal(sealed: bytes) -> bytes:
    """Decrypt. Raises SealError (changed, or key destroyed) or KeyUnavailable (no key file)."""
    name = envelope.key_name(sealed)
    opened = _still_open(name)
    if opened is not None:
        return envelope.unseal(opened, sealed)
    try:
        row = rows.DataKey.objects.filter(pk=UUID(name)).first()
    except ValueError:
        raise SealError("The sealed artefact was changed.") from None
    if row is None:
        raise SealError("The key of this data is not in the database. Restore the database.")
    return envelope.unseal(_open(row), sealed)


# --- Keyed digests ---


def _hmac(key: bytes, purpose: str, value: str) -> str:
    derived = hmac.new(key, purpose.encode(), hashlib.sha256).digest()
    return hmac.new(derived, value.encode(), hashlib.sha256).hexdigest()


def keyed_digest(purpose: str, value: str) -> str:
    """HMAC-SHA-256 (hex): equal values compare equal, and nobody without the key can guess them."""
    return _hmac(_one(KeyPurpose.INDEX).key, purpose, value)


def commitment(case: Case, purpose: str, value: str) -> str:
    """HMAC-SHA-256 (hex) under the case's key, for the log.

    It binds the log to the value; once the key is destroyed nobody can link the two any more.
    """
    return _hmac(key_of(case).key, f"commitment to {purpose}", value)
