"""AlphaEdit: many facts at once, in the directions that the model's own texts hardly use.

Fang et al. 2025, eq. 14: Δ = R KᵀP (P(KKᵀ + B)P + λI)⁻¹P with P = UUᵀ over the null space of the
second moment, solved in the basis U. B holds the keys of all edits before and, beyond the paper,
the neighbours' and what U holds of the second moment, for on small models no direction is unused:
without it general facts wear off over a sequence of edits. The published threshold is an absolute
singular value; here U holds the most directions with at most `null_share` of the moment's trace,
and none at all is an error: then the published code changes nothing and says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from editing.closed_form import NullSpace, in_null_space, null_space
from editing.located import kept_keys, moment_at, to_keep, told
from editing.mass import MassConfig, edit_many
from language_models.errors import RequestError
from language_models.methods import require_positive, setting
from language_models.progress import silent

if TYPE_CHECKING:
    from torch import Tensor

    from editing.located import Located
    from editing.memory import EditedKeys
    from editing.requests import EditRequest, EditResult
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress


@dataclass(frozen=True, kw_only=True)
class AlphaEditConfig(MassConfig):
    """Settings of AlphaEdit."""

    null_share: float = setting(
        0.2,
        "share of the moment's trace that the null space may hold",
        "measured; the published threshold is absolute and means another thing for each model",
    )
    null_threshold: float = setting(
        0.0,
        "eigenvalue below which a direction is in the null space; 0: by null_share",
        "AlphaEdit's code",
        published=0.02,
    )
    null_spaces: tuple[tuple[int, NullSpace], ...] = setting(
        (),
        "layer and null space of each, made before by null_space; none: made now",
        "Lethe",
        private=True,
    )
    null_ridge: float = setting(
        1.0, "λ, weight of the norm of Δ", "measured; AlphaEdit's code, L2", published=10.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "null_share", "null_ridge")
        if self.null_threshold < 0:
            raise RequestError("null_threshold must not be below zero.")


def run(
    lm: LanguageModel,
    requests: tuple[EditRequest, ...],
    config: AlphaEditConfig,
    progress: Progress | None = None,
    memory: EditedKeys | None = None,
) -> EditResult:
    """Write all targets at once in the null space."""

    def gain(located: Located, layer: int, K: Tensor) -> tuple[Tensor, dict[str, Any]]:
        known = dict(config.null_spaces)
        moment = moment_at(lm, located.config, layer, progress or silent, memory)
        C = moment.matrix.to(K.device, torch.float64)
        space = known.get(layer) or null_space(C, config.null_share, config.null_threshold)
        B = (
            kept_keys(lm, requests, located, layer, memory)
            if config.compat
            else to_keep(lm, requests, located, layer, moment, memory)
        )
        found = {"null_space": space.basis.shape[1], "null_share": space.share, **told(moment)}
        if space.basis.shape[1] < len(requests):
            raise RequestError(
                f"The null space has {space.basis.shape[1]} directions, fewer than the"
                f" {len(requests)} edits. Raise null_share, edit fewer at once, or use memit."
            )
        return in_null_space(
            K, B.expand(len(K), len(K)), space.basis.to(K), config.null_ridge
        ), found

    return edit_many(lm, requests, config, progress, memory, "alphaedit", gain)
