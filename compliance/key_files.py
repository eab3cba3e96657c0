"""Key files under var/keys: the key-encryption keys, and which of them is in use. No Django models.

    var/keys/vault/<name>.key   32 bytes in base64, readable by its owner alone
    var/keys/vault/current      the name of the one that wraps new keys

They are no part of a database or its backups. `setup.state` makes the first one, `rotate_keys`
the next.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from typing import TYPE_CHECKING

from .durable import write_whole

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES = 32
READABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class KeyUnavailable(Exception):
    """A key file is missing, unreadable, or readable by others; the message says what to do."""


def read_private(path: Path) -> str:
    """The content of a file that nobody but its owner may read. Raises KeyUnavailable."""
    label = f"keys/{path.parent.name}/{path.name}"
    try:
        with path.open() as handle:
            mode = stat.S_IMODE(os.fstat(handle.fileno()).st_mode)
            if mode & READABLE_BY_OTHERS:
                raise KeyUnavailable(
                    f"The key file {label} can be read by others (mode {mode:o}). "
                    f"Run: chmod 600 on it, and consider the key known: rotate it."
                )
            return handle.read().strip()
    except FileNotFoundError:
        raise KeyUnavailable(
            f"The key file {label} is missing. Restore it from the backup of the keys; what it "
            "protects cannot be read meanwhile, and nothing is lost."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise KeyUnavailable(
            f"The key file {label} cannot be read ({type(error).__name__})."
        ) from None


def read_key(folder: Path, name: str) -> bytes:
    """A 256-bit key by its name. Raises KeyUnavailable."""
    try:
        key = base64.b64decode(read_private(folder / f"{name}.key"), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyUnavailable(
            f"The key file keys/{folder.name}/{name}.key does not hold 32 bytes in base64. "
            "Restore it from the backup of the keys."
        )
    return key


def current_name(folder: Path) -> str:
    """The name of the key that wraps new keys. Raises KeyUnavailable."""
    name = read_private(folder / "current")
    if not name.isalnum():
        raise KeyUnavailable(f"The file keys/{folder.name}/current does not name a key.")
    return name


def write_private(path: Path, content: str) -> None:
    """Write a key file whole, readable by its owner alone."""
    write_whole(path, content.encode())


def new_key(folder: Path) -> str:
    """Make a key-encryption key and put it into use; returns its name."""
    name = secrets.token_hex(4)
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    write_private(folder / f"{name}.key", key)
    write_private(folder / "current", name)
    return name
