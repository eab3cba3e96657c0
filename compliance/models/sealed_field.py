"""A column that the database holds only as ciphertext."""

from __future__ import annotations

import base64
import json
from typing import Any

from django.db import models


class SealedJSONField(models.BinaryField):
    """A JSON value sealed under the key of the row's case (the row has an attribute `case`).

    The key hangs on the row, so a value is sealed when its row is saved; `update()` and filters,
    which know no row, are refused with TypeError.
    """

    # What django-stubs reads: any JSON value goes in and comes out.
    _pyi_private_set_type: Any
    _pyi_private_get_type: Any

    def pre_save(self, model_instance: Any, add: bool) -> bytes | None:  # noqa: FBT001 -- Django's
        from compliance import vault

        value = getattr(model_instance, self.attname)
        if value is None:
            return None
        plain = json.dumps(value, ensure_ascii=False).encode()
        return vault.seal(plain, vault.key_of(model_instance.case))

    def get_prep_value(self, value: Any) -> bytes | None:
        if value is None or isinstance(value, bytes):
            return value
        raise TypeError(f"{self.name} is sealed with its row: set it and call save()")

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        from compliance import vault

        return None if value is None else json.loads(vault.unseal(bytes(value)))

    def to_python(self, value: Any) -> Any:
        return value

    def value_to_string(self, obj: models.Model) -> str:
        """Serialised (fixtures, dumps) as ciphertext too."""
        sealed = self.pre_save(obj, add=False)
        return "" if sealed is None else base64.b64encode(sealed).decode()
