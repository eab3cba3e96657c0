"""Personal data at rest: encrypted fields, keyed digests, one key-encryption key outside the data.

The key lies in var/keys (mode 0600) and is made by `make setup`. Losing it loses the data; whoever
holds it and a copy of the database reads everything.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models

from . import envelope

if TYPE_CHECKING:
    from pathlib import Path


@lru_cache(maxsize=4)
def _read_key(path: Path) -> bytes:
    try:
        key = base64.b64decode(path.read_text())
    except FileNotFoundError:
        raise ImproperlyConfigured(
            "The vault key is missing. Run `make setup`, or restore var/keys/vault.key."
        ) from None
    if len(key) != envelope.KEY_BYTES:
        raise ImproperlyConfigured("The vault key must be 32 bytes in base64.")
    return key


def key_encryption_key() -> bytes:
    """The 256-bit key that wraps every data key."""
    return _read_key(settings.KEY_DIR / "vault.key")


def new_data_key() -> envelope.DataKey:
    """A fresh data key, wrapped for storage beside what it seals."""
    return envelope.new_data_key(key_encryption_key())


def seal(plain: bytes) -> bytes:
    """Encrypt under a fresh data key."""
    return envelope.seal(new_data_key(), plain)


def unseal(sealed: bytes) -> bytes:
    """Decrypt. Raises envelope.SealError when the bytes were changed."""
    return envelope.unseal(key_encryption_key(), sealed)


def keyed_digest(purpose: str, value: str) -> str:
    """HMAC-SHA-256 (hex): equal values compare equal, and nobody without the key can guess them."""
    key = hmac.new(key_encryption_key(), purpose.encode(), hashlib.sha256).digest()
    return hmac.new(key, value.encode(), hashlib.sha256).hexdigest()


class SealedJSONField(models.BinaryField):
    """A JSON value that the database holds only as ciphertext."""

    # What django-stubs reads: any JSON value goes in and comes out.
    _pyi_private_set_type: Any
    _pyi_private_get_type: Any

    def get_prep_value(self, value: Any) -> bytes | None:
        if value is None:
            return None
        return seal(json.dumps(value, ensure_ascii=False).encode())

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return None if value is None else json.loads(unseal(bytes(value)))

    def to_python(self, value: Any) -> Any:
        return value

    def value_to_string(self, obj: models.Model) -> str:
        """Serialised (fixtures, dumps) as ciphertext too."""
        sealed = self.get_prep_value(self.value_from_object(obj))
        return "" if sealed is None else base64.b64encode(sealed).decode()
