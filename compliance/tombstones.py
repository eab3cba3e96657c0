"""Which cases were shredded and which duties were ended by hand, kept beside the keys.

A database restored from a backup holds the wrapped key and the rows of a case again, and names as
current a version that still holds the person. The vault opens no key that has a tombstone, no
version with one comes into force, `shredding.replay` shreds the case anew, and `duties.end_due`
ends the duty. One JSON line each: references and hashes, nothing personal.
"""

from __future__ import annotations

import fcntl
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from django.conf import settings

from .key_files import KeyUnavailable, write_private

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Tombstone:
    """One shredded case: its key, how it had ended, and the versions that hold the person.

    purpose: of the key, "case" or "duty"; the outcome of a duty says why it was ended.
    """

    case: str
    organisation: str
    key: str
    outcome: str
    at: str
    by: str
    versions: list[str] = field(default_factory=list)
    purpose: str = "case"


_read: tuple[tuple[int, int, int], list[Tombstone]] | None = None


def path() -> Path:
    return settings.KEY_DIR / "tombstones"


def all_of_them() -> list[Tombstone]:
    """Every tombstone; the file is read again only when it changed. Raises KeyUnavailable."""
    global _read  # one small file, asked for at every unsealing
    try:
        found = path().stat()
    except FileNotFoundError:
        return []
    stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
    if _read is None or _read[0] != stamp:
        try:
            lines = path().read_text().splitlines()
            _read = stamp, [Tombstone(**json.loads(line)) for line in lines]
        except (ValueError, TypeError):
            raise KeyUnavailable(
                "The file keys/tombstones is damaged. Restore it from the backup of the keys: "
                "without it a restored database could bring back what was destroyed."
            ) from None
    return _read[1]


def is_destroyed(key: str) -> bool:
    """Whether the case of this key was shredded, or its duty ended by hand."""
    return any(stone.key == key for stone in all_of_them())


def of_version(digest: str, organisation: str | None) -> Tombstone | None:
    """The tombstone of a case that took something out of this version of a model or dataset.

    organisation: whose version it is. Another one may use the same model from elsewhere.
    """
    return next(
        (
            stone
            for stone in all_of_them()
            if digest in stone.versions and organisation in (None, stone.organisation)
        ),
        None,
    )


def add(stone: Tombstone) -> None:
    """Record what was destroyed durably, the whole file anew. Adding one twice is fine."""
    with (path().parent / ".tombstones.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_destroyed(stone.key):
            return
        line = json.dumps(asdict(stone), sort_keys=True)
        lines = path().read_text().splitlines() if path().exists() else []
        write_private(path(), "\n".join([*lines, line]) + "\n")
