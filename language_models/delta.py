"""A change of weights as an object of its own: apply, revert bit for bit, save, load.

Two forms per tensor. Low rank: W' = W + Σ aᵢ bᵢᵀ, summed in float64 in a fixed order, one
product and one addition at a time, so that any machine gets the same bits; what rounding loses
on the way back is kept as a sparse correction. Dense: the XOR of the bit patterns before and
after. Each entry carries the tensor's SHA-256 before and after, checked on every use.

A delta tells whom a change is about almost as well as the data did: store it encrypted.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from language_models.checkpoint import state_digest, tensor_digest
from language_models.errors import DeltaError
from language_models.files import sync

if TYPE_CHECKING:
    from collections.abc import Mapping

    from language_models.checkpoint import LanguageModel

FORMAT = "lethe-delta-1"
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class LowRank:
    """left (d_out, r) and right (r, d_in) in float64; index and bits restore what rounding lost."""

    left: torch.Tensor
    right: torch.Tensor
    index: torch.Tensor
    bits: torch.Tensor
    before: str
    after: str


@dataclass(frozen=True)
class Dense:
    """bits: the XOR of the tensor's bit patterns before and after, as integers."""

    bits: torch.Tensor
    before: str
    after: str


@dataclass(frozen=True)
class WeightDelta:
    """Changes per parameter name, in the order in which they are applied."""

    entries: Mapping[str, LowRank | Dense]

    @classmethod
    def from_factors(
        cls, lm: LanguageModel, factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    ) -> WeightDelta:
        """Plan W + left @ right per name for the weights `lm` has now, without changing them."""
        weights = _weights(lm)
        return cls({name: _low_rank(weights[name], *pair) for name, pair in factors.items()})

    @classmethod
    def between(cls, before: Mapping[str, torch.Tensor], lm: LanguageModel) -> WeightDelta:
        """Return the exact difference from copies taken `before` to the weights `lm` has now."""
        weights = _weights(lm)
        entries: dict[str, LowRank | Dense] = {}
        for name, old in before.items():
            new = weights[name].detach()
            bits = _as_bits(old.to(new.device)) ^ _as_bits(new)
            if bits.any():
                entries[name] = Dense(bits.cpu(), tensor_digest(old), tensor_digest(new))
        return cls(entries)

    def apply(self, lm: LanguageModel) -> str:
        """Change the weights of `lm` in place; return the model's new state digest."""
        return self._write(lm, forward=True)

    def revert(self, lm: LanguageModel) -> str:
        """Bring the weights of `lm` back bit for bit; return the model's state digest."""
        return self._write(lm, forward=False)

    def to_bytes(self) -> bytes:
        """Return the delta as the content of one safetensors file, to be encrypted at once."""
        tensors: dict[str, torch.Tensor] = {}
        table: list[dict[str, str]] = []
        for number, (name, entry) in enumerate(self.entries.items()):
            kind = "low_rank" if isinstance(entry, LowRank) else "dense"
            table.append({"name": name, "kind": kind, "before": entry.before, "after": entry.after})
            for part in _PARTS[kind]:
                tensors[f"{number:05}.{part}"] = getattr(entry, part).contiguous()
        return save_tensors(tensors, metadata={"format": FORMAT, "entries": json.dumps(table)})

    @classmethod
    def from_bytes(cls, content: bytes) -> WeightDelta:
        """Read what `to_bytes` wrote; raises DeltaError when it is damaged or something else."""
        try:
            tensors = load_tensors(content)
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            metadata = header.get("__metadata__", {})
            if metadata.get("format") != FORMAT:
                raise DeltaError("This file is not a weight change of this version of Lethe.")
            entries: dict[str, LowRank | Dense] = {}
            for number, row in enumerate(json.loads(metadata["entries"])):
                parts = {part: tensors[f"{number:05}.{part}"] for part in _PARTS[row["kind"]]}
                make = LowRank if row["kind"] == "low_rank" else Dense
                entries[row["name"]] = make(**parts, before=row["before"], after=row["after"])
        except (SafetensorError, KeyError, ValueError) as error:
            raise DeltaError("The delta file is missing or damaged. Restore it.") from error
        return cls(entries)

    def save(self, path: str | Path) -> None:
        """Write the delta as one safetensors file, whole or not at all."""
        target = Path(path)
        work = target.with_name(f".{target.name}.{os.getpid()}")
        work.write_bytes(self.to_bytes())
        sync(work)
        work.replace(target)
        sync(target.parent)

    @classmethod
    def load(cls, path: str | Path) -> WeightDelta:
        """Read a delta file; raises DeltaError when it is missing, damaged or something else."""
        try:
            content = Path(path).read_bytes()
        except FileNotFoundError as error:
            raise DeltaError("The delta file is missing or damaged. Restore it.") from error
        return cls.from_bytes(content)

    def _write(self, lm: LanguageModel, *, forward: bool) -> str:
        weights = _weights(lm)
        for name, entry in self.entries.items():
            expected = entry.before if forward else entry.after
            if name not in weights or tensor_digest(weights[name]) != expected:
                raise DeltaError(
                    f"{name} is not the tensor this change belongs to. "
                    "Use the model version it was made for."
                )
        # All results are made and checked before the first weight is touched.
        results = {
            name: _moved(weights[name], entry, forward=forward)
            for name, entry in self.entries.items()
        }
        for name, entry in self.entries.items():
            if tensor_digest(results[name]) != (entry.after if forward else entry.before):
                raise DeltaError(f"The change of {name} does not give the recorded weights.")
        with torch.no_grad():
            for name, result in results.items():
                weights[name].copy_(result)
        return state_digest(lm.model)


_PARTS = {"low_rank": ("left", "right", "index", "bits"), "dense": ("bits",)}


def copy_weights(lm: LanguageModel) -> dict[str, torch.Tensor]:
    """Return copies of all parameters, for `WeightDelta.between` and for going back."""
    return {name: weight.detach().clone() for name, weight in lm.model.named_parameters()}


def restore_weights(lm: LanguageModel, copies: Mapping[str, torch.Tensor]) -> None:
    """Write copies taken by `copy_weights` back, bit for bit."""
    weights = _weights(lm)
    with torch.no_grad():
        for name, old in copies.items():
            weights[name].copy_(old)


def _weights(lm: LanguageModel) -> dict[str, torch.nn.Parameter]:
    return dict(lm.model.named_parameters())


def _as_bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().view(_INTEGERS[tensor.element_size()])


def _low_rank(weight: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> LowRank:
    old = weight.detach()
    left, right = left.detach().double().cpu(), right.detach().double().cpu()
    new = _add(old, left, right, sign=1)
    lost = (_as_bits(_add(new, left, right, sign=-1)) ^ _as_bits(old)).flatten()
    index = lost.nonzero().flatten()
    return LowRank(
        left, right, index.cpu(), lost[index].cpu(), tensor_digest(old), tensor_digest(new)
    )


def _add(
    weight: torch.Tensor, left: torch.Tensor, right: torch.Tensor, *, sign: int
) -> torch.Tensor:
    total = weight.double()
    change = torch.zeros_like(total)
    for column, row in zip(left.T.to(total.device), right.to(total.device), strict=True):
        # A product and then a sum, never fused: matrix products differ between machines.
        change = change + torch.outer(column, row)
    return (total + change if sign > 0 else total - change).to(weight.dtype)


def _moved(weight: torch.Tensor, entry: LowRank | Dense, *, forward: bool) -> torch.Tensor:
    old = weight.detach()
    if isinstance(entry, Dense):
        return (_as_bits(old) ^ entry.bits.to(old.device)).view(old.dtype)
    moved = _add(old, entry.left, entry.right, sign=1 if forward else -1)
    if forward:
        return moved
    bits = _as_bits(moved).flatten()
    index = entry.index.to(old.device)
    bits[index] ^= entry.bits.to(old.device)
    return bits.view(moved.dtype).view(old.shape)
