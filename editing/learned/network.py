"""The network of a learned editor: from a token's gradient factors to a better pair of factors.

One network per shape of matrix, shared by all matrices of that shape, with a scale and a shift of
its own for each (MEND, section 3.1; MALMEN, section 4). Before training the network is the
identity, so what comes out is the normalised gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Matrix:
    """A matrix that the editor may change, as (d_out, d_in), by its parameter's name."""

    name: str
    d_out: int
    d_in: int


@dataclass(frozen=True)
class Design:
    """What makes up an editor's network; with a seed it gives the same network again.

    scale_first: scale and shift before the rectifier (MEND's code) or after it (MALMEN's code).
    step: the first learned step of each matrix. ridge: log of the first ridge; none: no ridge.
    """

    matrices: tuple[Matrix, ...]
    rank: int
    layers: int
    scale_first: bool
    step: float
    ridge: float | None = None


class Normaliser(nn.Module):
    """Mean and standard deviation per feature of all rows seen so far, in float64.

    Rows come in any batches, also one by one: the moments of two sets are joined exactly (Chan,
    Golub and LeVeque 1983), and the result is that of torch.std over all rows at once. A feature
    that never varied, or was seen once, keeps its scale.
    """

    count: Tensor
    mean: Tensor
    squares: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(size, dtype=torch.float64))

    @torch.no_grad()
    def update(self, rows: Tensor) -> None:
        """Take in rows (n, size)."""
        if not len(rows):
            return
        found, added = rows.double(), len(rows)
        total = self.count + added
        moved = found.mean(dim=0) - self.mean
        within = (found - found.mean(dim=0)).square().sum(dim=0)
        self.squares += within + moved.square() * (self.count * added / total)
        self.mean += moved * (added / total)
        self.count += added

    @property
    def std(self) -> Tensor:
        """The standard deviation (size), 1 where none is known or it is zero."""
        std = (self.squares / (self.count - 1).clamp(min=1)).sqrt()
        return torch.where(std > 0, std, torch.ones_like(std))

    def forward(self, rows: Tensor) -> Tensor:
        """Return rows (n, size) normalised, in their own number format."""
        return ((rows.double() - self.mean) / self.std).to(rows.dtype)


class ResidualLayer(nn.Module):
    """y + relu(U V y + b) with low rank, U = 0 at first; scale and shift per matrix."""

    def __init__(self, size: int, design: Design, count: int, generator: torch.Generator) -> None:
        super().__init__()
        rank = min(design.rank, size)
        # The published V is not scaled by 1/√size and needs a learning rate of 1e-6 for it.
        first = torch.randn(rank, size, generator=generator) / math.sqrt(size)
        self.scale_first = design.scale_first
        self.V = nn.Parameter(first)
        self.U = nn.Parameter(torch.zeros(size, rank))
        self.bias = nn.Parameter(torch.zeros(size))
        self.scale = nn.Parameter(torch.ones(count, size))
        self.shift = nn.Parameter(torch.zeros(count, size))

    def forward(self, rows: Tensor, index: int) -> Tensor:
        """Return rows (n, size) for the matrix with this number."""
        inner = rows @ self.V.T @ self.U.T + self.bias
        scale, shift = self.scale[index], self.shift[index]
        # clamp, because relu has no gradient at the zero where training starts.
        if self.scale_first:
            return rows + (inner * scale + shift).clamp(min=0)
        return rows + inner.clamp(min=0) * scale + shift


class EditorNetwork(nn.Module):
    """The network of all matrices of one shape.

    steps (count): learned step of each matrix, in first steps, so that one learning rate fits any
    size; ridges (count): log of its ridge, MALMEN only.
    """

    def __init__(
        self, d_in: int, d_out: int, design: Design, count: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.d_in, self.d_out = d_in, d_out
        self.normaliser = Normaliser(d_in + d_out)
        self.body = nn.ModuleList(
            ResidualLayer(d_in + d_out, design, count, generator) for _ in range(design.layers)
        )
        self.first_step = design.step
        self.steps = nn.Parameter(torch.ones(count))
        self.ridges: nn.Parameter | None = None
        if design.ridge is not None:
            self.ridges = nn.Parameter(torch.full((count,), design.ridge))

    def step(self, index: int) -> Tensor:
        """Return the learned step of one matrix."""
        return self.first_step * self.steps[index]

    def forward(self, keys: Tensor, gradients: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """Return keys (n, d_in) and gradients (n, d_out) transformed for one matrix."""
        rows = self.normaliser(torch.cat([keys, gradients], dim=1))
        for layer in self.body:
            rows = layer(rows, index)
        new_keys, new_gradients = rows.split([self.d_in, self.d_out], dim=1)
        return new_keys, new_gradients


class Editor(nn.Module):
    """The networks of all shapes and which matrix belongs to which."""

    def __init__(self, design: Design, seed: int) -> None:
        super().__init__()
        self.design = design
        generator = torch.Generator().manual_seed(seed)
        of_shape: dict[str, list[Matrix]] = {}
        for matrix in design.matrices:
            of_shape.setdefault(_shape(matrix), []).append(matrix)
        self.networks = nn.ModuleDict(
            {
                shape: EditorNetwork(same[0].d_in, same[0].d_out, design, len(same), generator)
                for shape, same in of_shape.items()
            }
        )
        self._place = {
            matrix.name: (shape, index)
            for shape, same in of_shape.items()
            for index, matrix in enumerate(same)
        }

    def at(self, name: str) -> tuple[EditorNetwork, int]:
        """Return the network of a matrix and the matrix's number in it."""
        shape, index = self._place[name]
        return cast("EditorNetwork", self.networks[shape]), index

    def parameter_groups(self, rate: float, step_rate: float) -> list[dict[str, object]]:
        """Return Adam's groups: the networks, and the steps and ridges with a rate of their own."""
        single = [weight for name, weight in self.named_parameters() if _is_single(name)]
        rest = [weight for name, weight in self.named_parameters() if not _is_single(name)]
        return [{"params": rest, "lr": rate}, {"params": single, "lr": step_rate}]


def described(design: Design) -> dict[str, object]:
    """Return a design as JSON values."""
    return {
        "matrices": [[one.name, one.d_out, one.d_in] for one in design.matrices],
        "rank": design.rank,
        "layers": design.layers,
        "scale_first": design.scale_first,
        "step": design.step,
        "ridge": design.ridge,
    }


def _shape(matrix: Matrix) -> str:
    return f"{matrix.d_in}x{matrix.d_out}"


def _is_single(name: str) -> bool:
    return name.endswith((".steps", ".ridges"))
