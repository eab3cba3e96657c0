"""The closed form of ROME in float64: the least change that maps keys to their new values.

Δ = δ uᵀ. ROME (eq. 2) takes the u with uᵀk = 1 that minimises tr(Δ A Δᵀ), for one key k. Here each
wording of the fact has a key of its own, so uᵀk = 1 is asked of them all: u solves it exactly
with slack 0, evenly weighted with more, and tends to ROME's u of the mean key as slack grows.
Whatever the slack, u is scaled so that uᵀk_e = 1 for the mean key k_e: then W' k_e = W k_e + δ.

A = λC + Σ wᵢ kᵢkᵢᵀ: the second moment C of all tokens, counted as λ keys, and single keys that
must keep their outputs. Without the latter, other people's same fact changes along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from language_models.errors import NotReached

if TYPE_CHECKING:
    from torch import Tensor


class Preserved:
    """The matrix A (d_ff, d_ff) of what is to stay; keys can be added between edits."""

    def __init__(self, moment: Tensor, moment_weight: float, ridge: float) -> None:
        """`ridge` is the share of the mean diagonal of C that is added to its diagonal."""
        C = moment.double()
        noise = torch.eye(len(C), dtype=torch.float64) * (ridge * C.diagonal().mean())
        self.matrix = moment_weight * (C + noise)

    def add(self, keys: Tensor, weight: float) -> None:
        """Keep the outputs of `keys` (n, d_ff), each counted `weight` times."""
        K = keys.double().cpu()
        self.matrix = self.matrix + weight * (K.T @ K)


def rank_one(
    delta: Tensor, keys: Tensor, preserved: Preserved, slack: float
) -> tuple[Tensor, Tensor]:
    """Return (left (d_out, 1), right (1, d_ff)) in float64 for keys (n, d_ff), one a wording."""
    K = keys.double().cpu()
    X = torch.linalg.solve(preserved.matrix, K.T)
    wanted = torch.ones(len(K), dtype=torch.float64)
    share = torch.linalg.solve(K @ X + slack * torch.eye(len(K), dtype=torch.float64), wanted)
    u = X @ share
    scale = u @ K.mean(dim=0)
    if not torch.isfinite(u).all() or scale <= 0:
        raise NotReached("The keys cannot be told apart. Raise the ridge or the slack.")
    return delta.double().cpu()[:, None], (u / scale)[None, :]
