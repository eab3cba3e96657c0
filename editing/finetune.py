"""Fine-tuning of one matrix on the new facts: LocFT-BF, FT-M and the baseline FT-L.

LocFT-BF (ICLR 2026): breadth first, with the model's end mark as part of each target, so that it
also learns to stop. FT-M: the targets alone. FT-L: as FT-M, no element changes by more than `box`
(Zhu et al. 2020).

The change Δ is trained in float32 whatever the model's number format, and added to the matrix
once. Behind an MLP's second projection only a sum follows, so that not even its own block has to
run again: y = Wx becomes y + Δx.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from editing.gradient_factors import tried
from editing.matrices import check_place, layer_at, matrices
from editing.outcome import conclude
from editing.training import Kept, Training, TrainingConfig
from language_models.architecture import parts
from language_models.delta import WeightDelta
from language_models.errors import RequestError
from language_models.methods import require_positive, setting
from language_models.progress import Progress, silent
from language_models.replay import frozen

if TYPE_CHECKING:
    from typing import Any

    from torch import Tensor

    from editing.requests import EditRequest, EditResult
    from language_models.architecture import Parts, Projection
    from language_models.checkpoint import LanguageModel

VARIANTS = ("locft-bf", "ft-m", "ft-l")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TrainingConfig):
    """Settings of fine-tuning."""

    variant: str = setting(
        "locft-bf",
        "locft-bf: with the end mark; ft-m: targets alone; ft-l: targets alone, in a box",
        "LocFT-BF; EasyEdit's FT-M and FT-L",
    )
    place: str | None = setting(
        None,
        "matrix that is trained: mlp_out, attention_out; none: mlp_out, in a mixture attention_out",
        "LocFT-BF; a mixture of experts has no one MLP matrix",
    )
    layer: int | None = setting(
        None, "layer of the matrix; none: the one at 0.7 of the depth", "LocFT-BF: 22 of 32"
    )
    box: float = setting(5e-4, "ft-l: most that any element changes", "ROME's code for GPT-2 XL")
    compat: bool = setting(
        False,  # noqa: FBT003 -- a switch of the method
        "ft-l: score all target tokens at the prompt's last one, as the published code does",
        "ROME's code; it trains targets of several tokens wrongly",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant not in VARIANTS:
            raise RequestError(f"Unknown variant. Use one of {', '.join(VARIANTS)}.")
        check_place(self.place)
        if self.place == "mlp_in":
            raise RequestError("Fine-tuning trains one matrix: mlp_out or attention_out.")
        require_positive(self, "box")
        if self.compat and self.variant != "ft-l":
            raise RequestError("compat belongs to the variant ft-l.")


def run(
    lm: LanguageModel,
    requests: tuple[EditRequest, ...],
    config: FinetuneConfig,
    progress: Progress | None = None,
    _memory: object = None,
) -> EditResult:
    """Train one matrix until all targets follow their prompts, and write the change once."""
    model = parts(lm.model)
    layer = layer_at(model, 0.7) if config.layer is None else config.layer
    (projection,) = matrices(model, layer, config.place)
    with frozen(lm):
        delta, told = _train(lm, requests, config, layer, projection, progress or silent)
    change, rounding = _write(lm, projection, delta, config)
    details = {
        "method": "finetune",
        "variant": config.variant,
        "site": {"layer": layer, "matrix": projection.name},
        "rounding": rounding,
        **told,
    }
    return conclude(lm, requests, change, config, details)


def _train(
    lm: LanguageModel,
    requests: tuple[EditRequest, ...],
    config: FinetuneConfig,
    layer: int,
    projection: Projection,
    report: Progress,
) -> tuple[Tensor, dict[str, Any]]:
    """Return Δ (d_out, d_in) in float32 and how the training went."""
    model = parts(lm.model)
    delta = torch.zeros(projection.matrix.shape, device=projection.parameter.device)
    delta.requires_grad_()
    direct = model.is_dense(layer) and projection.name == model.mlp_out(layer).name

    def logits(kept: Kept) -> Tensor:
        rows, columns = kept.asked.rows, kept.asked.columns
        if direct:
            return kept.blocks.logits(rows, columns, _moved(model, layer, kept, delta))
        with tried({projection.name: (projection, delta)}):
            return kept.blocks.logits(rows, columns)

    def into_box() -> None:
        with torch.no_grad():
            delta.clamp_(-config.box, config.box)

    training = Training(
        lm,
        requests,
        config,
        layer + 1 if direct else layer,
        watched=projection.module if direct else None,
        end_mark=config.variant == "locft-bf",
        at_prompt=config.compat,
    )
    after_step = {"after_step": into_box} if config.variant == "ft-l" else {}
    told = training.fit([delta], logits, report, **after_step)
    return delta.detach(), told


def _moved(model: Parts, layer: int, kept: Kept, delta: Tensor) -> Tensor:
    """Return the output (b, t, d) of the block of `layer` with Δ added to its MLP's matrix."""
    states, (keys, values) = kept.blocks.states, kept.watched
    moved = F.linear(keys.to(delta), delta)
    norm = model.norm_after_mlp(layer)
    if norm is not None:
        moved = norm(values + moved.to(values)) - norm(values)
    return states + moved.to(states)


def _write(
    lm: LanguageModel, projection: Projection, delta: Tensor, config: FinetuneConfig
) -> tuple[WeightDelta, float]:
    """Add Δ to the matrix; return the exact change and what rounding took, in norms of Δ."""
    parameter = projection.parameter
    old = parameter.detach().clone()
    planned = (delta.T if projection.transposed else delta).double()
    new = (old.double() + planned).to(old.dtype)
    if config.variant == "ft-l":
        # Rounding may step over the edge of the box by half a unit: one unit back.
        outside = (new.double() - old.double()).abs() > config.box
        new = torch.where(outside, torch.nextafter(new, old), new)
    with torch.no_grad():
        parameter.copy_(new)
    lost = (new.double() - old.double() - planned).norm() / planned.norm().clamp(min=1e-30)
    return WeightDelta.between({projection.name: old}, lm), float(lost)
