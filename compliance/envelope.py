"""Sealed bytes: AES-256-GCM under a data key that is itself wrapped by the key-encryption key.

No Django here, so that the heavy child process can seal a weight delta before it touches a disk.
Layout: magic, 2-byte header length, JSON header {wrapped, nonce}, ciphertext. The header is
authenticated as associated data.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"LETHE1"
KEY_BYTES = 32
NONCE_BYTES = 12


class SealError(Exception):
    """The bytes are not an envelope, were changed, or belong to another key."""


@dataclass(frozen=True)
class DataKey:
    """A fresh 256-bit key and its form wrapped by the key-encryption key (base64)."""

    key: bytes
    wrapped: str


def new_data_key(key_encryption_key: bytes) -> DataKey:
    """A data key for one artefact or one case."""
    key = AESGCM.generate_key(bit_length=256)
    nonce = os.urandom(NONCE_BYTES)
    sealed = nonce + AESGCM(key_encryption_key).encrypt(nonce, key, MAGIC)
    return DataKey(key=key, wrapped=base64.b64encode(sealed).decode())


def unwrap(key_encryption_key: bytes, wrapped: str) -> bytes:
    """The data key. Raises SealError for another key-encryption key."""
    sealed = base64.b64decode(wrapped)
    try:
        return AESGCM(key_encryption_key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], MAGIC)
    except InvalidTag:
        raise SealError("The data key was wrapped by another key, or was changed.") from None


def seal(data_key: DataKey, plain: bytes) -> bytes:
    """The envelope of `plain`."""
    nonce = os.urandom(NONCE_BYTES)
    header = json.dumps(
        {"wrapped": data_key.wrapped, "nonce": base64.b64encode(nonce).decode()}
    ).encode()
    head = MAGIC + len(header).to_bytes(2, "big") + header
    return head + AESGCM(data_key.key).encrypt(nonce, plain, head)


def unseal(key_encryption_key: bytes, envelope: bytes) -> bytes:
    """What `seal` was given. Raises SealError when anything was changed."""
    if not envelope.startswith(MAGIC):
        raise SealError("These bytes are not a sealed artefact.")
    start = len(MAGIC) + 2
    end = start + int.from_bytes(envelope[len(MAGIC) : start], "big")
    try:
        header = json.loads(envelope[start:end])
        key = unwrap(key_encryption_key, header["wrapped"])
        nonce = base64.b64decode(header["nonce"])
        return AESGCM(key).decrypt(nonce, envelope[end:], envelope[:end])
    except (InvalidTag, ValueError, KeyError):
        raise SealError("The sealed artefact was changed.") from None
