"""Fine-tuning of one matrix on the new facts: LocFT-BF, FT-M and the baseline FT-L.

LocFT-BF (ICLR 2026): breadth first, with the model's end mark as part of each target, so that it
also learns to stop; a share of the change is written. FT-M: the targets alone, the whole change.
FT-L: as FT-M, no element changes by more than `box` (Zhu et al. 2020).

The change Δ is trained in float32 whatever the model's number format, and added to the matrix
once. Behind an MLP's second projection only a sum follows, so that not even its own block has to
run again: y = Wx becomes y + Δx.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from editing.bound import BoundConfig, share_to_write
from editing.gradient_factors import tried
from editing.matrices import check_place, layer_at, matrices
from editing.outcome import conclude
from editing.training import Training, TrainingConfig
from editing.training_rows import end_mark
from language_models.architecture import parts
from language_models.delta import WeightDelta
from language_models.errors import RequestError
from language_models.methods import require_positive, setting
from language_models.progress import Progress, silent
from language_models.replay import frozen

if TYPE_CHECKING:
    from typing import Any

    from torch import Tensor

    from editing.kept_rows import Kept
    from editing.requests import EditRequest, EditResult
    from language_models.architecture import Projection
    from language_models.checkpoint import LanguageModel

VARIANTS = ("locft-bf", "ft-m", "ft-l")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TrainingConfig, BoundConfig):
    """Settings of fine-tuning."""

    variant: str = setting(
        "locft-bf",
        "locft-bf: with the end mark, a share of the change is written; ft-m: targets alone, all of"
        " the change; ft-l: as ft-m, in a box",
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
        for name, unbound in (("margin", 0), ("neighbours_lost", 1)):
            given = getattr(self, name) not in (unbound, getattr(BoundConfig, name))
            if given and self.variant != "locft-bf":
                raise RequestError(f"{name} belongs to the variant locft-bf. Leave it out.")


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
        trained = _Trained(lm, requests, config, layer, projection)
        told = trained.fit(progress or silent)
        change, rounding = _write(lm, projection, trained.delta, config)
        # Rows after lead-ins are trained on and do not count.
        targets = None if config.lead_ins or config.compat else trained
        details = {
            "method": "finetune",
            "variant": config.variant,
            "site": {"layer": layer, "matrix": projection.name},
            "rounding": rounding,
            **told,
        }
        return conclude(lm, requests, change, config, details, targets=targets)


class _Trained:
    """Δ (d_out, d_in) in float32, and the rows that it is trained on."""

    def __init__(
        self,
        lm: LanguageModel,
        requests: tuple[EditRequest, ...],
        config: FinetuneConfig,
        layer: int,
        projection: Projection,
    ) -> None:
        self.config, self.projection, self.count = config, projection, len(requests)
        self.delta = torch.zeros(projection.matrix.shape, device=projection.parameter.device)
        model = parts(lm.model)
        self.direct = model.is_dense(layer) and projection.name == model.mlp_out(layer).name
        self.locft = config.variant == "locft-bf"
        self.training = Training(
            lm,
            requests,
            config,
            layer + 1 if self.direct else layer,
            watched=projection.module if self.direct else None,
            end=end_mark(lm) if self.locft else (),
            at_prompt=config.compat,
            check=self.locft and config.neighbours_lost < 1,
        )

    def fit(self, report: Progress) -> dict[str, Any]:
        """Train Δ, leave of it what is to be written, and return how it went."""
        delta = self.delta.requires_grad_()

        def into_box() -> None:
            with torch.no_grad():
                delta.clamp_(-self.config.box, self.config.box)

        after_step = {"after_step": into_box} if self.config.variant == "ft-l" else {}
        told = self.training.fit([delta], self._logits, report, **after_step)
        self.delta = delta.detach()
        if not self.locft:
            return told
        share = share_to_write(
            self.config,
            lambda part: self.training.reached(lambda kept: self._logits(kept, part)),
            (lambda part: self.training.stayed(lambda kept: self._logits(kept, part)))
            if self.training.checked
            else None,
        )
        self.delta *= share.written
        return {**told, "share": share.written}

    def achieved(self) -> list[dict[str, float]]:
        """Return what outcome.achieved returns, by the weights as they are now."""
        return self.training.achieved(self._logits_now, self.count)

    def _logits(self, kept: Kept, part: float = 1.0) -> Tensor:
        rows, columns = kept.asked.rows, kept.asked.columns
        delta = self.delta if part == 1 else self.delta * part
        if self.direct:
            change = F.linear(kept.watched[0].to(delta), delta)
            return kept.blocks.logits(rows, columns, kept.moved(change))
        with tried({self.projection.name: (self.projection, delta)}):
            return kept.blocks.logits(rows, columns)

    def _logits_now(self, kept: Kept) -> Tensor:
        rows, columns = kept.asked.rows, kept.asked.columns
        if not self.direct:
            return kept.blocks.logits(rows, columns)
        keys, values = kept.watched
        return kept.blocks.logits(rows, columns, kept.moved(self.projection.module(keys) - values))


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
