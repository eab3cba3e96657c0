"""A change of weights as an object of its own: apply, revert bit for bit, combine, save, load.

Each entry is the change of one tensor (language_models.tensor_change) with the tensor's SHA-256
before and after. All of them are checked before the first weight is touched, so a change of
another model, or a damaged one, changes nothing. No parameter is ever added or removed.

A delta tells whom a change is about almost as well as the data did: store it encrypted.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from language_models.checkpoint import state_digest, tensor_digest
from language_models.errors import DeltaError
from language_models.files import sync
from language_models.tensor_change import Change, Dense, LowRank, dense, joined, low_rank, moved

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from language_models.checkpoint import LanguageModel

__all__ = [
    "Change",
    "Dense",
    "LowRank",
    "WeightDelta",
    "combine",
    "copy_weights",
    "restore_weights",
]

FORMAT = "lethe-delta-2"
DAMAGED = "The delta file is missing or damaged. Restore it."
_UNSEALED = "0" * 64
_PARTS = {
    "low_rank": ("left", "right", "forward_index", "forward_bits", "index", "bits"),
    "dense": ("bits",),
}


@dataclass(frozen=True)
class WeightDelta:
    """Changes per parameter name, in the order in which they are applied."""

    entries: Mapping[str, LowRank | Dense]

    @classmethod
    def from_factors(
        cls, lm: LanguageModel, factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    ) -> WeightDelta:
        """Plan W + left @ right per name for the weights `lm` has now, without changing them.

        left (d_out, r) and right (r, d_in) as the parameter is stored. Raises DeltaError for a
        name or shape that the model has not, NotReached when a planned weight is not finite.
        """
        weights = _weights(lm, factors)
        return cls({name: low_rank(weights[name], *pair) for name, pair in factors.items()})

    @classmethod
    def between(cls, before: Mapping[str, torch.Tensor], lm: LanguageModel) -> WeightDelta:
        """Return the exact difference from copies taken `before` to the weights `lm` has now."""
        weights = _weights(lm, before)
        found = {name: dense(old.to(weights[name].device), weights[name])
                 for name, old in before.items()}  # fmt: skip
        return cls({name: entry for name, entry in found.items() if entry is not None})

    def apply(self, lm: LanguageModel) -> str:
        """Change the weights of `lm` in place; return the model's new state digest."""
        self.write(lm)
        return state_digest(lm.model)

    def revert(self, lm: LanguageModel) -> str:
        """Bring the weights of `lm` back bit for bit; return the model's state digest."""
        self.undo(lm)
        return state_digest(lm.model)

    def write(self, lm: LanguageModel) -> None:
        """Change the weights of `lm` in place, without a digest of the whole model."""
        self._write(lm, forward=True)

    def undo(self, lm: LanguageModel) -> None:
        """Bring the weights back bit for bit, without a digest of the whole model."""
        self._write(lm, forward=False)

    def measures(self) -> dict[str, dict[str, Any]]:
        """Return per tensor name how much of it changes: rank, relative, rounding."""
        return {name: asdict(entry.change) for name, entry in self.entries.items()}

    def to_bytes(self) -> bytes:
        """Return the delta as the content of one safetensors file, to be encrypted at once."""
        tensors: dict[str, torch.Tensor] = {}
        table: list[dict[str, Any]] = []
        for number, (name, entry) in enumerate(self.entries.items()):
            kind = "low_rank" if isinstance(entry, LowRank) else "dense"
            row = {"name": name, "kind": kind, "before": entry.before, "after": entry.after}
            table.append({**row, "change": asdict(entry.change)})
            for part in _PARTS[kind]:
                tensors[f"{number:05}.{part}"] = getattr(entry, part).contiguous()
        metadata = {"format": FORMAT, "sha256": _UNSEALED, "entries": json.dumps(table)}
        return _sealed(save_tensors(tensors, metadata=metadata))

    @classmethod
    def from_bytes(cls, content: bytes) -> WeightDelta:
        """Read what `to_bytes` wrote; raises DeltaError when it is damaged or something else."""
        try:
            metadata = _header(content)["__metadata__"]
            if metadata["format"] != FORMAT:
                raise DeltaError("This file is not a weight change of this version of Lethe.")
            if _sealed(content, str(metadata["sha256"])) != content:
                raise DeltaError(DAMAGED)
            tensors = load_tensors(content)
            entries: dict[str, LowRank | Dense] = {}
            for number, row in enumerate(json.loads(metadata["entries"])):
                parts = {part: tensors[f"{number:05}.{part}"] for part in _PARTS[row["kind"]]}
                make = LowRank if row["kind"] == "low_rank" else Dense
                change = Change(**row["change"])
                entries[row["name"]] = make(
                    **parts, before=row["before"], after=row["after"], change=change
                )
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise DeltaError(DAMAGED) from error
        return cls(entries)

    def save(self, path: str | Path) -> None:
        """Write the delta as one safetensors file that its owner alone can read, whole or not."""
        target = Path(path)
        work = target.with_name(f".{target.name}.{os.getpid()}")
        handle = os.open(work, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(self.to_bytes())
            sync(work)
            work.replace(target)
        finally:
            work.unlink(missing_ok=True)
        sync(target.parent)

    @classmethod
    def load(cls, path: str | Path) -> WeightDelta:
        """Read a delta file; raises DeltaError when it is missing, damaged or something else."""
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise DeltaError(DAMAGED) from error
        return cls.from_bytes(content)

    def _write(self, lm: LanguageModel, *, forward: bool) -> None:
        weights = _weights(lm, self.entries)
        for name, entry in self.entries.items():
            _check_base(name, weights[name], entry.before if forward else entry.after)
        # Everything is made and checked before the first weight is touched. Only what takes long
        # to make is kept: a dense change of a whole model would need the model twice.
        made: dict[str, torch.Tensor] = {}
        for name, entry in self.entries.items():
            result = moved(weights[name], entry, forward=forward)
            if isinstance(entry, LowRank):
                made[name] = result
        with torch.no_grad():
            for name, entry in self.entries.items():
                kept = made.pop(name) if name in made else None
                result = moved(weights[name], entry, forward=forward) if kept is None else kept
                weights[name].copy_(result)


def combine(lm: LanguageModel, deltas: Sequence[WeightDelta]) -> WeightDelta:
    """Return one delta that equals `deltas` applied in order, bit for bit in both directions.

    lm has the weights that they left, and keeps them. What one delta alone changed stays as it
    is; low-rank changes of one tensor become one of low rank, unless its bits take less room.
    Raises DeltaError when the deltas do not follow each other up to the weights of `lm`.
    """
    chains: dict[str, list[LowRank | Dense]] = {}
    for delta in deltas:
        for name, entry in delta.entries.items():
            chains.setdefault(name, []).append(entry)
    weights = _weights(lm, chains)
    found: dict[str, LowRank | Dense | None] = {}
    for name, chain in chains.items():
        new = weights[name].detach()
        _check_base(name, new, chain[-1].after)
        if len(chain) == 1:
            found[name] = chain[0]
            continue
        old = new
        for entry in reversed(chain):
            _check_base(name, old, entry.after)
            old = moved(old, entry, forward=False)
        found[name] = joined(old, new, chain)
    return WeightDelta({name: entry for name, entry in found.items() if entry is not None})


def copy_weights(lm: LanguageModel) -> dict[str, torch.Tensor]:
    """Return copies of all parameters, for `WeightDelta.between` and for going back."""
    return {name: weight.detach().clone() for name, weight in lm.model.named_parameters()}


def restore_weights(lm: LanguageModel, copies: Mapping[str, torch.Tensor]) -> None:
    """Write copies taken by `copy_weights` back, bit for bit."""
    weights = _weights(lm, copies)
    with torch.no_grad():
        for name, old in copies.items():
            weights[name].copy_(old)


def _weights(lm: LanguageModel, names: Iterable[str]) -> dict[str, torch.nn.Parameter]:
    """Return the named parameters; a tied weight is found by each of its names, but only once."""
    known = dict(lm.model.named_parameters(remove_duplicate=False))
    found: dict[str, torch.nn.Parameter] = {}
    seen: set[int] = set()
    for name in names:
        if name not in known or known[name].is_meta:
            raise DeltaError(
                f"{name} is not the tensor this change belongs to: the model has none in memory."
                " Use the model version it was made for."
            )
        if id(known[name]) in seen:
            raise DeltaError(
                f"{name} is tied to another tensor of this change, so the model has one of both."
                " Use the model version it was made for."
            )
        seen.add(id(known[name]))
        found[name] = known[name]
    return found


def _check_base(name: str, weight: torch.Tensor, expected: str) -> None:
    if tensor_digest(weight) != expected:
        raise DeltaError(
            f"{name} is not the tensor this change belongs to. Use the model version it was made"
            " for."
        )


def _header(content: bytes) -> dict[str, Any]:
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    return header


def _sealed(content: bytes, seal: str = _UNSEALED) -> bytes:
    """Return the file with the SHA-256 of itself, taken with zeros in its own place."""
    length = int.from_bytes(content[:8], "little")
    place = content.index(seal.encode(), 8, 8 + length)
    end = place + len(_UNSEALED)
    digest = hashlib.sha256(content[:place] + _UNSEALED.encode())
    digest.update(memoryview(content)[end:])
    return b"".join((content[:place], digest.hexdigest().encode(), memoryview(content)[end:]))
