"""EMMET: many facts at once into one layer, each value met exactly with slack 0 (ROME for a batch).

Gupta et al. 2024. Δ = R (KᵀA⁻¹K + σI)⁻¹ KᵀA⁻¹ minimises tr(ΔAΔᵀ) under ΔK = R for σ = 0. σ is a
share of the mean diagonal of KᵀA⁻¹K, for the published constant (0.1) shrinks every edit of a model
whose keys are small. Values met at once where keys are nearly alike move much else: so the slack is
large, and what a first solution lacks, further rounds ask for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from editing.closed_form import constrained
from editing.located import moment_at, to_keep, told
from editing.mass import MassConfig, edit_many
from language_models.errors import RequestError
from language_models.methods import setting
from language_models.progress import silent

if TYPE_CHECKING:
    from torch import Tensor

    from editing.located import Located
    from editing.memory import EditedKeys
    from editing.requests import EditRequest, EditResult
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress


@dataclass(frozen=True, kw_only=True)
class EmmetConfig(MassConfig):
    """Settings of EMMET."""

    slack: float = setting(
        2.0,
        "how unequal keys may be met, as a share of the mean diagonal of KᵀA⁻¹K",
        "measured; the published 0.1 is absolute, so it shrinks edits where keys are small",
        published=0.1,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slack < 0:
            raise RequestError("slack must not be below zero.")
        if len(self.layers) > 1:
            raise RequestError("EMMET changes one layer. Give one, or use memit.")


def run(
    lm: LanguageModel,
    requests: tuple[EditRequest, ...],
    config: EmmetConfig,
    progress: Progress | None = None,
    memory: EditedKeys | None = None,
) -> EditResult:
    """Write all targets at once, each exactly or within the slack."""

    def gain(located: Located, layer: int, K: Tensor) -> tuple[Tensor, dict[str, Any]]:
        moment = moment_at(lm, located.config, layer, progress or silent, memory)
        A = to_keep(lm, requests, located, layer, moment, memory)
        size = 1.0 if config.compat else (K * torch.linalg.solve(A, K)).sum(dim=0).mean()
        return constrained(K, A, config.slack * size), told(moment)

    return edit_many(lm, requests, config, progress, memory, "emmet", gain)
