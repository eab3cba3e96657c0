"""MEND: a trained network turns the gradient of a fact into a change of weights.

Mitchell et al. 2022, section 3: ΔW = α Σ_t δ̃_t x̃_tᵀ, where (x̃_t, δ̃_t) is what the editor's
network makes of the gradient's factors (x_t, δ_t) and α is learned per matrix. One pass per edit;
beyond a few facts at once their changes disturb each other. Needs `python -m editing train`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from editing.gradient_factors import ALL_TOKENS
from editing.learned.change import Rule, run_trained
from editing.learned.settings import EditorTrainingConfig, LearnedConfig
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
class MendConfig(LearnedConfig):
    """Settings of MEND."""


@dataclass(frozen=True, kw_only=True)
class MendTraining(EditorTrainingConfig):
    """Settings of the training of an editor for MEND."""

    layer_count: int = setting(
        3, "without layers: how many of the last ones are changed", "MEND, table 8"
    )
    edits: int = setting(6, "most facts edited at once in a step", "measured", published=1)
    step: float = setting(
        -5e-4,
        "first α of each matrix; below zero goes down the gradient",
        "measured",
        published=1e-4,
    )
    edit_weight: float = setting(1.0, "weight of the targets' loss", "measured", published=0.1)


def change(network: EditorNetwork, factors: Factors, index: int) -> tuple[Tensor, Tensor]:
    """Return ΔW as left (d_out, n) and right (n, d_in); a request's wordings share its weight."""
    keys, gradients = network(factors.keys, factors.gradients, index)
    return (network.step(index) * factors.shares[:, None] * gradients).T, keys


def learn(network: EditorNetwork, factors: Factors, index: int, gradient: Tensor) -> None:
    """Add to the network's gradients what ∂L/∂ΔW (d_out, d_in) gives: ⟨∂L/∂ΔW, ΔW⟩ is linear."""
    left, right = change(network, factors, index)
    torch.sum((gradient @ right.T) * left).backward()  # type: ignore[no-untyped-call]


RULE = Rule("mend", MendTraining, change, learn, tokens=ALL_TOKENS, scale_first=True, ridge=False)


def run(
    lm: LanguageModel,
    requests: tuple[EditRequest, ...],
    config: MendConfig,
    progress: Progress | None = None,
    memory: EditedKeys | None = None,
) -> EditResult:
    """Write all requests by one step of the trained editor; `memory` is not used."""
    return run_trained(lm, requests, config, RULE, progress)
