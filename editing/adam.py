"""Adam (Kingma and Ba 2015, algorithm 1) for rows of which some may rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class RowAdam:
    """The moments of rows (n, d); each row's steps are those of an Adam of its own."""

    def __init__(self, start: Tensor, rate: float) -> None:
        self.rate = rate
        self.first, self.second = torch.zeros_like(start), torch.zeros_like(start)

    def step(self, slope: Tensor, rows: Tensor, count: int) -> Tensor:
        """Return what to take from the given rows; count: number of this step, from 1."""
        first, second = BETAS
        self.first[rows] = first * self.first[rows] + (1 - first) * slope
        self.second[rows] = second * self.second[rows] + (1 - second) * slope * slope
        m = self.first[rows] / (1 - first**count)
        v = self.second[rows] / (1 - second**count)
        return self.rate * m / (v.sqrt() + EPSILON)
