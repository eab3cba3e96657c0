"""MALMEN: many facts at once by a trained network, their changes joined by least squares.

Tan et al. 2024. Per target token the value is to move by D_t = -η (x_tᵀ x̃_t) δ̃_t, where x̃ and δ̃
are what the network makes of key and gradient (section 4.2). The change is the one that meets
all of these best: S = (KᵀK + e^λ I)⁻¹ Kᵀ D with K (n, d_in), D (n, d_out), and ΔW = Sᵀ (eq. 8).
Solved in float64, by the smaller of two equal systems, with G = ∂L/∂S:

primal  M = KᵀK + e^λ I   S = M⁻¹ Kᵀ D   ∂L/∂D = K M⁻¹ G   ∂L/∂λ = -e^λ ⟨M⁻¹ G, S⟩
dual    A = KKᵀ + e^λ I   S = Kᵀ A⁻¹ D   ∂L/∂D = A⁻¹ K G   ∂L/∂λ = -e^λ ⟨∂L/∂D, A⁻¹ D⟩

So training needs no graph through the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from editing.gradient_factors import TARGET_TOKENS
from editing.learned.change import Rule, run_trained
from editing.learned.settings import EditorTrainingConfig, LearnedConfig
from language_models.errors import RequestError
from language_models.methods import setting

if TYPE_CHECKING:
    from torch import Tensor

    from editing.gradient_factors import Factors
    from editing.learned.network import EditorNetwork
    from editing.memory import EditedKeys
    from editing.requests import EditRequest, EditResult
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress


@dataclass(frozen=True, kw_only=True)
class MalmenConfig(LearnedConfig):
    """Settings of MALMEN."""


@dataclass(frozen=True, kw_only=True)
class MalmenTraining(EditorTrainingConfig):
    """Settings of the training of an editor for MALMEN."""

    layer_count: int = setting(
        6, "without layers: how many of the last ones are changed, at most half", "MALMEN's code"
    )
    edits: int = setting(50, "most facts edited at once in a step", "measured", published=512)
    step: float = setting(2e-3, "first η of each matrix", "measured", published=1e-6)


def aggregate(K: Tensor, D: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor]:
    """Return ΔW = Sᵀ as left (d_out, n) and right (n, d_in).

    K (n, d_in), D (n, d_out) and ridge λ, the log of the ridge, in float64.
    """
    n, d = K.shape
    if n < d:
        return torch.linalg.solve(_gram(K.T, ridge), D).T, K
    return D.T, torch.linalg.solve(_gram(K, ridge), K.T).T


def back_substitute(K: Tensor, D: Tensor, ridge: Tensor, G: Tensor) -> tuple[Tensor, Tensor]:
    """Return ∂L/∂D (n, d_out) and ∂L/∂λ from G = ∂L/∂S (d_in, d_out), all in float64."""
    n, d = K.shape
    if n < d:
        solved = torch.linalg.solve(_gram(K.T, ridge), torch.cat([K @ G, D], dim=1))
        by_shift, weights = solved.split([G.shape[1], D.shape[1]], dim=1)
        return by_shift, -ridge.exp() * (by_shift * weights).sum()
    solved = torch.linalg.solve(_gram(K, ridge), torch.cat([G, K.T @ D], dim=1))
    inner, S = solved.split([G.shape[1], D.shape[1]], dim=1)
    return K @ inner, -ridge.exp() * (inner * S).sum()


def shifts(network: EditorNetwork, factors: Factors, index: int) -> Tensor:
    """Return D (n, d_out): how each token's value is to move."""
    keys, gradients = network(factors.keys, factors.gradients, index)
    likeness = (factors.keys * keys).sum(dim=1, keepdim=True)
    moved: Tensor = -network.step(index) * likeness * gradients
    return moved


def change(network: EditorNetwork, factors: Factors, index: int) -> tuple[Tensor, Tensor]:
    """Return ΔW as left (d_out, n) and right (n, d_in) in float64."""
    D = shifts(network, factors, index)
    return aggregate(factors.keys.double(), D.double(), _ridge(network, index))


def learn(network: EditorNetwork, factors: Factors, index: int, gradient: Tensor) -> None:
    """Add to the network's gradients what ∂L/∂ΔW (d_out, d_in) gives, by back-substitution."""
    D, ridge = shifts(network, factors, index), _ridge(network, index)
    by_shift, by_ridge = back_substitute(
        factors.keys.double(), D.detach().double(), ridge.detach(), gradient.T.double()
    )
    total = (by_shift * D.double()).sum() + by_ridge * ridge
    total.backward()  # type: ignore[no-untyped-call]


RULE = Rule(
    "malmen", MalmenTraining, change, learn, tokens=TARGET_TOKENS, scale_first=False, ridge=True
)


def run(
    lm: LanguageModel,
    requests: tuple[EditRequest, ...],
    config: MalmenConfig,
    progress: Progress | None = None,
    memory: EditedKeys | None = None,
) -> EditResult:
    """Write all requests by one least squares of the trained editor; `memory` is not used."""
    return run_trained(lm, requests, config, RULE, progress)


def _gram(K: Tensor, ridge: Tensor) -> Tensor:
    """Return KᵀK + e^λ I."""
    return K.T @ K + ridge.exp() * torch.eye(K.shape[1], dtype=K.dtype, device=K.device)


def _ridge(network: EditorNetwork, index: int) -> Tensor:
    if network.ridges is None:
        raise RequestError("This editor has no ridge. Train one with --method malmen.")
    return network.ridges[index].double()
