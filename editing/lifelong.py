"""The running mean and spread of keys and gradients over all edits of a model, for UltraEdit.

Sums of squares about the mean are joined batch by batch (Chan, Golub and LeVeque 1983), so any
cutting into batches, down to one row, gives what torch.std gives for all rows at once. Statistics
belong to the weights that the last edit made and are refused on others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from language_models.checkpoint import tensor_digest
from language_models.errors import DeltaError, RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from language_models.architecture import Projection

FORMAT = "lethe-lifelong-statistics-1"


@dataclass(frozen=True)
class Running:
    """Number of rows, their mean (d) and sum of squares about it (d), in float64."""

    count: int
    mean: Tensor
    squares: Tensor

    @classmethod
    def of(cls, rows: Tensor) -> Running:
        """Return the statistics of rows (n, d)."""
        rows = rows.double()
        mean = rows.mean(dim=0)
        return cls(len(rows), mean, (rows - mean).square().sum(dim=0))

    def joined(self, other: Running) -> Running:
        """Return the statistics of both sets of rows together."""
        count = self.count + other.count
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        between = apart.square() * (self.count * other.count / count)
        return Running(count, mean, self.squares + other.squares + between)

    def standardised(self, rows: Tensor) -> Tensor:
        """Return rows (n, d) less the mean, over the standard deviation; 0 where that is 0."""
        spread = (self.squares / max(self.count - 1, 1)).sqrt()
        moved = rows.double() - self.mean
        return torch.where(spread > 0, moved / spread.clamp(min=1e-300), torch.zeros_like(moved))


@dataclass(frozen=True)
class LifelongStatistics:
    """Running statistics of [key; gradient] per matrix name; digests: its weights since."""

    running: Mapping[str, Running] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)

    def check(self, projections: Sequence[Projection]) -> None:
        """Raise RequestError when these are not the weights that the earlier edits made."""
        for one in projections:
            known = self.digests.get(one.name)
            if known is not None and known != tensor_digest(one.parameter):
                raise RequestError(
                    f"The statistics of earlier edits belong to other weights of {one.name}. Use"
                    " the model that they made, or start without memory."
                )

    def with_rows(self, name: str, rows: Tensor) -> LifelongStatistics:
        """Return the statistics with rows (n, d) of a matrix added."""
        new = Running.of(rows)
        known = self.running.get(name)
        joined = (
            new
            if known is None
            else Running(
                known.count, known.mean.to(rows.device), known.squares.to(rows.device)
            ).joined(new)
        )
        return replace(self, running={**self.running, name: joined})

    def made(self, projections: Sequence[Projection]) -> LifelongStatistics:
        """Return the statistics bound to the weights as they are now."""
        now = {one.name: tensor_digest(one.parameter) for one in projections}
        return replace(self, digests={**self.digests, **now})

    def to_bytes(self) -> bytes:
        """Return the statistics as the content of one safetensors file, to be encrypted."""
        names = sorted(self.running)
        table = [
            {"name": name, "count": self.running[name].count, "digest": self.digests.get(name)}
            for name in names
        ]
        tensors = {}
        for number, name in enumerate(names):
            tensors[f"{number:05}.mean"] = self.running[name].mean.cpu().contiguous()
            tensors[f"{number:05}.squares"] = self.running[name].squares.cpu().contiguous()
        return save_tensors(tensors, metadata={"format": FORMAT, "matrices": json.dumps(table)})

    @classmethod
    def from_bytes(cls, content: bytes) -> LifelongStatistics:
        """Read what `to_bytes` wrote; raises DeltaError when it is damaged or something else."""
        try:
            tensors = load_tensors(content)
            head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            if head["__metadata__"]["format"] != FORMAT:
                raise DeltaError("This file is no statistics of edits of this version of Lethe.")
            running, digests = {}, {}
            for number, row in enumerate(json.loads(head["__metadata__"]["matrices"])):
                mean, squares = tensors[f"{number:05}.mean"], tensors[f"{number:05}.squares"]
                running[row["name"]] = Running(row["count"], mean, squares)
                digests[row["name"]] = row["digest"]
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise DeltaError("The statistics of edits are missing or damaged.") from error
        return cls(running, digests)
