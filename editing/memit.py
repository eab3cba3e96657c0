"""MEMIT: many facts at once by least squares, over one layer or several.

Meng et al. 2023. The value z of a fact is optimised at the last layer; then, layer by layer, each
takes its share of what is still missing there, with keys read on the weights changed so far:
Δ = R Kᵀ (A + KKᵀ)⁻¹ (eq. 14). A counts the second moment as λ keys and holds the neighbours' keys
and those of all edits before, so that edits one after another equal one batch. Each wording of a
fact is a key of its own. The norm of z is anchored (NAS), for long values make later ones longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from editing.closed_form import least_squares
from editing.located import moment_at, to_keep, told
from editing.mass import MassConfig, edit_many
from language_models.progress import silent

if TYPE_CHECKING:
    from torch import Tensor

    from editing.located import Located
    from editing.memory import EditedKeys
    from editing.requests import EditRequest, EditResult
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress


@dataclass(frozen=True, kw_only=True)
class MemitConfig(MassConfig):
    """Settings of MEMIT."""


def run(
    lm: LanguageModel,
    requests: tuple[EditRequest, ...],
    config: MemitConfig,
    progress: Progress | None = None,
    memory: EditedKeys | None = None,
) -> EditResult:
    """Write all targets at once by least squares."""

    def gain(located: Located, layer: int, K: Tensor) -> tuple[Tensor, dict[str, Any]]:
        moment = moment_at(lm, located.config, layer, progress or silent, memory)
        A = to_keep(lm, requests, located, layer, moment, memory)
        return least_squares(K, A), told(moment)

    return edit_many(lm, requests, config, progress, memory, "memit", gain)
