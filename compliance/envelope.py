"""Sealed bytes: AES-256-GCM under a data key that is named in the header and kept elsewhere.

No Django here, so that the heavy child process can seal a weight delta before it touches a disk.
Layout: magic, 2-byte header length, JSON header {key, nonce}, ciphertext. The header is
authenticated as associated data. A data key rests wrapped by a key-encryption key (vault.py), so
that a new key-encryption key changes no sealed file, and a data key that is destroyed takes
everything sealed under it with it.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"LETHE2"
WRAP = b"LETHE2 data key "
KEY_BYTES = 32
NONCE_BYTES = 12
LONGEST_HEADER = 400


class SealError(Exception):
    """The bytes are not an envelope, were changed, or their key is another or is destroyed."""


@dataclass(frozen=True)
class DataKey:
    """A 256-bit key and the name under which it is kept."""

    id: str
    key: bytes

    def __repr__(self) -> str:
        return f"DataKey({self.id})"


def wrap(key_encryption_key: bytes, data_key: DataKey) -> str:
    """The data key, encrypted for storage (base64) and bound to its name."""
    nonce = os.urandom(NONCE_BYTES)
    bound = WRAP + data_key.id.encode()
    sealed = AESGCM(key_encryption_key).encrypt(nonce, data_key.key, bound)
    return base64.b64encode(nonce + sealed).decode()


def unwrap(key_encryption_key: bytes, wrapped: str, name: str) -> DataKey:
    """What `wrap` was given. Raises SealError for another key-encryption key or another name."""
    try:
        sealed = base64.b64decode(wrapped, validate=True)
        key = AESGCM(key_encryption_key).decrypt(
            sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], WRAP + name.encode()
        )
    except (InvalidTag, ValueError):
        raise SealError("The data key was wrapped by another key, or was changed.") from None
    return DataKey(name, key)


def seal(data_key: DataKey, plain: bytes) -> bytes:
    """The envelope of `plain`."""
    nonce = os.urandom(NONCE_BYTES)
    header = json.dumps(
        {"key": data_key.id, "nonce": base64.b64encode(nonce).decode()}, separators=(",", ":")
    ).encode()
    head = MAGIC + len(header).to_bytes(2, "big") + header
    return head + AESGCM(data_key.key).encrypt(nonce, plain, head)


def _split(envelope: bytes) -> tuple[str, bytes, int]:
    """Key name, nonce and where the ciphertext begins."""
    if not envelope.startswith(MAGIC):
        raise SealError("These bytes are not a sealed artefact of this version.")
    start = len(MAGIC) + 2
    end = start + int.from_bytes(envelope[len(MAGIC) : start], "big")
    try:
        header = json.loads(envelope[start:end])
        return str(header["key"]), base64.b64decode(header["nonce"], validate=True), end
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise SealError("The sealed artefact was changed.") from None


def key_name(envelope: bytes) -> str:
    """The name of the data key; the first LONGEST_HEADER bytes suffice. Raises SealError."""
    return _split(envelope)[0]


def unseal(data_key: DataKey, envelope: bytes) -> bytes:
    """What `seal` was given. Raises SealError when anything was changed."""
    _, nonce, begin = _split(envelope)
    try:
        return AESGCM(data_key.key).decrypt(nonce, envelope[begin:], envelope[:begin])
    except (InvalidTag, ValueError):
        raise SealError("The sealed artefact was changed.") from None
