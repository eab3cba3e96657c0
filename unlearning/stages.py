"""Stages of the training of shards, each in a file named by all that it depends on.

A stage is a function of its address: settings, base model, shard, slice, the stage before, the
records and the environment. So a stage that is there need not be trained again, and a subject
who is gone changes the address of every stage that saw the subject. Each file is sealed by key:
what was changed or put there by somebody else is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from language_models.errors import CheckpointError
from language_models.files import sync
from unlearning.deterministic import digest
from unlearning.shards import keyed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

SUFFIX = ".safetensors"
NO_STAGE = ""


@dataclass(frozen=True)
class Recipe:
    """All that a stage depends on, in digests; none of them tells a text or a subject.

    parent: the address of the stage before, or NO_STAGE. records: keyed digests, sorted.
    """

    settings: str
    base: str
    shard: int
    slice: int
    parent: str
    records: tuple[str, ...]
    environment: str

    @property
    def address(self) -> str:
        """The SHA-256 of the recipe."""
        return digest_of(asdict(self))


class StageStore:
    """A folder of stages."""

    def __init__(self, folder: Path, key: bytes) -> None:
        self.folder, self.key = folder, key

    def has(self, address: str) -> bool:
        """Whether the stage is there; it is checked when it is read."""
        return self.path(address).is_file()

    def write(self, address: str, tensors: Mapping[str, Tensor]) -> str:
        """Write a stage, whole or not at all; return the SHA-256 of its tensors."""
        kept = {name: tensor.contiguous() for name, tensor in sorted(tensors.items())}
        sha256 = digest(kept)
        metadata = {"format": "pt", "seal": self._seal(address, sha256)}
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=self.folder) as work:
            fresh = Path(work) / "stage"
            save_file(kept, fresh, metadata=metadata)
            sync(fresh)
            fresh.replace(self.path(address))
        sync(self.folder)
        return sha256

    def read(self, address: str, sha256: str | None = None) -> tuple[dict[str, Tensor], str]:
        """Return the tensors of a stage and their SHA-256.

        Raises CheckpointError when the stage is missing, damaged, not sealed by this key for this
        address, or not the one that `sha256` names.
        """
        path = self.path(address)
        try:
            with safe_open(path, framework="pt") as stored:
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
                seal = (stored.metadata() or {}).get("seal", "")
        except FileNotFoundError as error:
            raise CheckpointError(
                "A stage of the sharded training is missing. Restore its file from a backup, or"
                " train in a new folder."
            ) from error
        except (OSError, SafetensorError) as error:
            raise _tampered() from error
        found = digest(tensors)
        if not hmac.compare_digest(seal, self._seal(address, found)):
            raise _tampered()
        if sha256 not in (None, found):
            raise _tampered()
        return tensors, found

    def path(self, address: str) -> Path:
        """Return where a stage is, or would be."""
        return self.folder / f"{address}{SUFFIX}"

    def _seal(self, address: str, sha256: str) -> str:
        return keyed(self.key, "stage", address, sha256).hex()


def digest_of(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON of a value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _tampered() -> CheckpointError:
    return CheckpointError(
        "A stage of the sharded training was changed or damaged. Restore its file from a backup,"
        " or train in a new folder."
    )
