"""The closed forms in float64: the least change Δ that maps keys to new outputs.

Keys are columns of K (d_ff, n), wanted changes of their outputs columns of R (d_out, n). Every form
is Δ = R G with a gain G (n, d_ff) that depends on the keys alone. A is what must stay:
λC + Σ wᵢkᵢkᵢᵀ, the second moment C of all tokens counted as λ keys, and single keys that must keep
their outputs. Without the latter, other people's same fact changes along. Edits made before are
such keys too, so that edits one after another equal one batch.

constrained    G = (KᵀA⁻¹K + σI)⁻¹ KᵀA⁻¹   minimises tr(ΔAΔᵀ) under ΔK = R (σ = 0): EMMET, and ROME
               for one key
least_squares  G = Kᵀ (A + KKᵀ)⁻¹           minimises tr(ΔAΔᵀ) + ‖ΔK - R‖²: MEMIT, eq. 14
in_null_space  G = KᵀU (Uᵀ(KKᵀ + B)U + λI)⁻¹ Uᵀ   Δ = 0 outside the span of U: AlphaEdit, eq. 14
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from language_models.errors import NotReached, RequestError

if TYPE_CHECKING:
    from torch import Tensor

Factors = tuple[torch.Tensor, torch.Tensor]


def constrained(K: Tensor, A: Tensor, slack: Tensor | float = 0.0) -> Tensor:
    """Return G (n, d_ff); raises NotReached for keys that coincide.

    slack: σ, how unequal the keys may be met: a number or one per key, added to the diagonal.
    """
    X = torch.linalg.solve(A, K)
    gram = K.T @ X
    gram = gram + slack * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    gain: Tensor
    gain, failed = torch.linalg.solve_ex(gram, X.T)
    if int(failed) or not torch.isfinite(gain).all():
        raise NotReached("The keys cannot be told apart. Raise the ridge or the slack.")
    return gain


def rank_one(delta: Tensor, K: Tensor, A: Tensor, slack: float = 0.0) -> Factors:
    """Return (left (d_out, 1), right (1, d_ff)) for one fact with the keys of its wordings.

    Δ = δuᵀ. Whatever the slack, u is scaled so that uᵀk_e = 1 for the mean key k_e, and with one
    key it is ROME's u (eq. 2): W'k_e = Wk_e + δ.
    """
    u = constrained(K, A, slack).sum(dim=0)
    scale = torch.dot(u, K.mean(dim=1))
    if not torch.isfinite(u).all() or scale <= 0:
        raise NotReached("The keys cannot be told apart. Raise the ridge or the slack.")
    return delta[:, None], (u / scale)[None, :]


def least_squares(K: Tensor, A: Tensor) -> Tensor:
    """Return G (n, d_ff), by the smaller of two equal systems."""
    d, n = K.shape
    if n < d:
        # Woodbury: Kᵀ(A + KKᵀ)⁻¹ = (I + KᵀA⁻¹K)⁻¹KᵀA⁻¹
        return constrained(K, A, 1.0)
    gain: Tensor = torch.linalg.solve(A + K @ K.T, K).T
    return gain


@dataclass(frozen=True)
class NullSpace:
    """U (d_ff, r): orthonormal directions that hold `share` of the second moment's trace."""

    basis: Tensor
    share: float


def null_space(C: Tensor, share: float, threshold: float = 0.0) -> NullSpace:
    """Return the most directions that hold at most `share` of tr C; raises RequestError for none.

    The published threshold is an absolute eigenvalue, which means another thing for each model; a
    share of the trace does not change when the keys are scaled. A threshold above 0 is taken.
    """
    values, vectors = torch.linalg.eigh(C)
    held = values.clamp(min=0).cumsum(0) / values.clamp(min=0).sum()
    count = int((values < threshold).sum() if threshold else (held <= share).sum())
    if count == 0:
        raise RequestError(
            "No direction of the keys is unused enough by the second moment, so there is no null"
            " space to edit in. Raise null_share or null_threshold, or use memit."
        )
    return NullSpace(vectors[:, :count], float(held[count - 1]))


def in_null_space(K: Tensor, B: Tensor, U: Tensor, ridge: float) -> Tensor:
    """Return G (n, d_ff); B (d_ff, d_ff) is the sum over keys to keep."""
    inside = U.T @ K
    eye = torch.eye(U.shape[1], dtype=K.dtype, device=K.device)
    system = inside @ inside.T + U.T @ B @ U + ridge * eye
    gain: Tensor = torch.linalg.solve(system, inside).T @ U.T
    return gain


def compact(left: Tensor, right: Tensor) -> Factors:
    """Return factors of the same product with no more columns than the product has rows."""
    if left.shape[1] <= left.shape[0]:
        return left, right
    return torch.eye(len(left), dtype=left.dtype, device=left.device), left @ right
