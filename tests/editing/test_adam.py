from __future__ import annotations

import torch

from editing.adam import RowAdam


def test_rows_step_as_an_adam_each_also_where_some_rest() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(4, 3, dtype=torch.float64, generator=generator)
    slopes = torch.randn(6, 4, 3, dtype=torch.float64, generator=generator)
    going = [[0, 1, 2, 3], [0, 1, 3], [3, 0, 1], [3, 0], [0, 3], [0]]
    moved, adam = start.clone(), RowAdam(start, 0.3)

    for step, (rows, slope) in enumerate(zip(going, slopes, strict=True)):
        at = torch.tensor(rows)
        moved[at] -= adam.step(slope[at], at, step + 1)

    for row in range(4):
        alone = start[row].clone().requires_grad_()
        optimiser = torch.optim.Adam([alone], lr=0.3)
        for rows, slope in zip(going, slopes, strict=True):
            if row in rows:
                alone.grad = slope[row]
                optimiser.step()
        torch.testing.assert_close(moved[row], alone.detach(), rtol=1e-12, atol=1e-12)
