"""UltraEdit (Gu et al. 2025): one gradient, standardised by lifelong statistics, least squares.

Per matrix, H (n, d_in) are its inputs and G (n, d_out) the gradients of the loss with respect to
its outputs at the tokens from which a target is predicted. With ĥ and ĝ standardised by the running
mean and spread of all edits so far:

v = -η ‖ĥ‖² ĝ        Δ = Vᵀ H (HᵀH + ridge I)⁻¹ = Vᵀ (HHᵀ + ridge I)⁻¹ H

No subject, no second moments, no trained editor. Neighbours' keys may be rows of H with v = 0: then
least squares keeps their outputs. A small model needs several rounds; the published method has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from editing.gradient_factors import tried
from editing.kept_blocks import keep_blocks
from editing.lifelong import LifelongStatistics
from editing.matrices import check_place, matrices
from editing.outcome import conclude
from editing.requests import EditConfig
from editing.training import Kept, row_losses
from editing.training_rows import Row, asked, neighbour_rows, target_rows
from language_models.architecture import parts
from language_models.delta import WeightDelta
from language_models.errors import NotReached, RequestError
from language_models.methods import require_positive, setting
from language_models.moments import hooked
from language_models.progress import Progress, silent
from language_models.replay import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from editing.requests import EditRequest, EditResult
    from language_models.architecture import Projection
    from language_models.checkpoint import LanguageModel


@dataclass(frozen=True, kw_only=True)
class UltraEditConfig(EditConfig):
    """Settings of UltraEdit."""

    place: str | None = setting(
        None,
        "matrices that are changed: mlp_out, mlp_in, attention_out; none: by the family",
        "UltraEdit: down projections, or gate and up",
    )
    layers: tuple[int, ...] = setting(
        (), "layers that are changed; none: those from 0.6 to 0.9 of the depth", "UltraEdit's code"
    )
    step: float = setting(3e-4, "η, length of a step", "measured", published=1e-6)
    ridge: float = setting(1.0, "added to the diagonal before solving", "UltraEdit")
    batch_size: int = setting(100, "facts solved for together", "UltraEdit")
    rounds: int = setting(10, "most passes over all facts", "measured", published=1)
    stop_loss: float = setting(
        0.2, "stop when the mean loss before a round is below", "measured", published=0.0
    )
    neighbour_weight: float = setting(
        10.0, "weight of each neighbour's key", "measured; not in the paper", published=0.0
    )
    lead_ins: tuple[str, ...] = setting(
        (), "texts put before the prompts, in turn", "Lethe", private=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_place(self.place)
        require_positive(self, "step", "ridge", "batch_size", "rounds")
        if min(self.neighbour_weight, self.stop_loss) < 0:
            raise RequestError("neighbour_weight and stop_loss must not be below zero.")


def run(
    lm: LanguageModel,
    requests: tuple[EditRequest, ...],
    config: UltraEditConfig,
    progress: Progress | None = None,
    memory: LifelongStatistics | None = None,
) -> EditResult:
    """Solve for the change batch by batch, and write it once.

    memory: the statistics of the edits before, from their result.
    """
    if memory is not None and not isinstance(memory, LifelongStatistics):
        raise RequestError("ultraedit takes the memory of an ultraedit before it.")
    model = parts(lm.model)
    layers = config.layers or _middle_layers(len(model.blocks))
    places = tuple(one for layer in layers for one in matrices(model, layer, config.place))
    statistics = memory or LifelongStatistics()
    statistics.check(places)
    with frozen(lm):
        rounds = _Rounds(lm, requests, config, min(layers), places, statistics)
        losses = rounds.run(progress or silent)
    change, rounding = _write(lm, places, rounds.deltas)
    details = {
        "method": "ultraedit",
        "site": {"layers": list(layers), "matrices": [one.name for one in places]},
        "rounding": rounding,
        "losses": losses,
        "rows_in_statistics": max(one.count for one in rounds.statistics.running.values()),
    }
    return conclude(lm, requests, change, config, details, rounds.statistics.made(places))


def solve(V: Tensor, H: Tensor, kept: Tensor, ridge: float) -> Tensor:
    """Return Δ (d_out, d_in): V (n, d_out) and H (n, d_in); kept (k, d_in): keys with v = 0.

    The smaller of two equal systems is solved.
    """
    every = torch.cat([H, kept])
    if len(every) < H.shape[1]:
        gram = every @ every.T
        system = gram + ridge * torch.eye(len(gram), dtype=H.dtype, device=H.device)
        wanted = torch.cat([V, torch.zeros(len(kept), V.shape[1], dtype=V.dtype, device=V.device)])
        found: Tensor = torch.linalg.solve(system, wanted).T @ every
        return found
    system = every.T @ every + ridge * torch.eye(H.shape[1], dtype=H.dtype, device=H.device)
    solved: Tensor = torch.linalg.solve(system, H.T @ V)
    return solved.T


def wanted_change(keys: Tensor, gradients: Tensor, step: float) -> Tensor:
    """Return V (n, d_out) = -η ‖ĥ‖² ĝ of standardised keys (n, d_in) and gradients (n, d_out)."""
    return -step * keys.square().sum(dim=1, keepdim=True) * gradients


class _Rounds:
    """The change of each matrix so far, in float64, and the statistics so far."""

    def __init__(
        self,
        lm: LanguageModel,
        requests: Sequence[EditRequest],
        config: UltraEditConfig,
        first: int,
        places: Sequence[Projection],
        statistics: LifelongStatistics,
    ) -> None:
        self.lm, self.config, self.places, self.statistics = lm, config, places, statistics
        self.first = first
        self.deltas = {
            one.name: torch.zeros_like(one.matrix, dtype=torch.float64) for one in places
        }
        size = config.batch_size
        self.batches = [
            self._keep(target_rows(lm, requests[start : start + size], config.lead_ins))
            for start in range(0, len(requests), size)
        ]
        held = neighbour_rows(lm, requests) if config.neighbour_weight else []
        self.held = _seen(self._keep(held), places, self.deltas) if held else {}

    def run(self, report: Progress) -> list[float]:
        """Do all rounds; return the mean loss before each."""
        if len(self.batches) > 1 and not self.statistics.running:
            # Statistics of one batch alone would make its facts look unlike those to come.
            for batch in self.batches:
                self._measure(batch)
        losses = []
        for turn in range(self.config.rounds):
            report("rounds", turn, self.config.rounds)
            total = sum(self._solve(batch) * len(batch) for batch in self.batches)
            losses.append(total / sum(len(batch) for batch in self.batches))
            if losses[-1] < self.config.stop_loss:
                break
        report("rounds", self.config.rounds, self.config.rounds)
        return losses

    def _keep(self, rows: Sequence[Row]) -> Kept:
        blocks, last, _ = keep_blocks(self.lm, [row.ids[:-1] for row in rows], self.first)
        wanted = asked(self.lm, rows)
        return Kept(blocks, wanted, last[wanted.rows, wanted.columns])

    def _solve(self, batch: Kept) -> float:
        """Add the change of one batch; return its mean loss before it."""
        factors, loss = self._measure(batch)
        for name, (H, G) in factors.items():
            found = self.statistics.running[name].standardised(torch.cat([H, G], dim=1))
            V = wanted_change(found[:, : H.shape[1]], found[:, H.shape[1] :], self.config.step)
            K = self.held[name][0] if self.held else H[:0]
            change = solve(V, H, K * self.config.neighbour_weight**0.5, self.config.ridge)
            self.deltas[name] = self.deltas[name] + change
            if not torch.isfinite(change).all():
                raise NotReached("The steps broke down. Lower the step or raise the ridge.")
        return loss

    def _measure(self, batch: Kept) -> tuple[dict[str, tuple[Tensor, Tensor]], float]:
        """Return H and G per matrix at the tokens asked and the mean loss; count them in."""
        losses: list[Tensor] = []

        def score(logits: Tensor) -> Tensor:
            losses.append(row_losses(logits, batch.asked, len(batch)))
            # The sum over rows: so a row's gradient does not depend on the rows beside it.
            return losses[0].sum()

        found = _seen(batch, self.places, self.deltas, score)
        for name, (H, G) in found.items():
            self.statistics = self.statistics.with_rows(name, torch.cat([H, G], dim=1))
        return found, float(losses[0].detach().mean())


def _seen(
    batch: Kept,
    places: Sequence[Projection],
    deltas: Mapping[str, Tensor],
    score: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return per matrix its inputs (m, d_in) and, of a score, its outputs' gradients (m, d_out).

    Both are in float64 and at the tokens asked; without a score the gradients are empty.
    """
    rows, columns = batch.asked.rows, batch.asked.columns
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def look(name: str) -> Any:
        def keep(_module: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            inputs[name] = args[0].detach()[rows, columns].double()
            # Weights need no gradient, so the graph begins at the lowest of these outputs.
            outputs[name] = output if output.requires_grad else output.detach().requires_grad_()
            return outputs[name]

        return keep

    trial = {one.name: (one, deltas[one.name].float()) for one in places}
    with (
        tried(trial),
        torch.set_grad_enabled(score is not None),
        hooked(
            *(lambda one=one: one.module.register_forward_hook(look(one.name)) for one in places)
        ),
    ):
        logits = batch.blocks.logits(rows, columns)
    if score is None:
        return {name: (H, H[:, :0]) for name, H in inputs.items()}
    slopes = torch.autograd.grad(score(logits), [outputs[one.name] for one in places])
    return {
        one.name: (inputs[one.name], slope[rows, columns].double())
        for one, slope in zip(places, slopes, strict=True)
    }


def _middle_layers(count: int) -> tuple[int, ...]:
    """Return the layers from 0.6 to 0.9 of the depth, as most published settings have them."""
    first = int(0.6 * count)
    return tuple(range(first, max(first + 1, round(0.9 * count))))


def _write(
    lm: LanguageModel, places: Sequence[Projection], deltas: Mapping[str, Tensor]
) -> tuple[WeightDelta, dict[str, float]]:
    """Add each Δ to its matrix; return the exact change and what rounding took, in norms of Δ."""
    before = {one.name: one.parameter.detach().clone() for one in places}
    rounding = {}
    for one in places:
        old = before[one.name].double()
        planned = deltas[one.name].T if one.transposed else deltas[one.name]
        with torch.no_grad():
            one.parameter.copy_(old + planned)
        lost = (one.parameter.detach().double() - old - planned).norm()
        rounding[one.name] = float(lost / planned.norm().clamp(min=1e-30))
    return WeightDelta.between(before, lm), rounding
