"""UltraEdit (Gu et al. 2025): one gradient, standardised by lifelong statistics, least squares.

Per matrix, H (n, d_in) are its inputs and G (n, d_out) the gradients of the loss with respect to
its outputs at the tokens from which a target is predicted. With ĥ and ĝ standardised by the running
mean and spread of all edits so far:

v = -η ‖ĥ‖² ĝ        Δ = Vᵀ H (HᵀH + ridge I)⁻¹ = Vᵀ (HHᵀ + ridge I)⁻¹ H

No subject, no second moments, no trained editor. Neighbours' keys may be rows of H with v = 0: then
least squares keeps their outputs. A small model needs several rounds; the published method has one.

Facts come in batches, in their order. The first batch that neighbours do not bear is the last one:
more facts than a model holds would otherwise all be written in part, and hardly one reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from editing.bound import BoundConfig, Share, share_to_write
from editing.kept_rows import achieved_by, reached_share, stayed_share
from editing.lifelong import LifelongStatistics
from editing.matrices import check_place, matrices
from editing.outcome import achieved, conclude
from editing.training_rows import (
    NEIGHBOURS_HELP,
    drawn_neighbours,
    end_mark,
    held_and_checked,
    neighbour_rows,
    target_rows,
)
from editing.ultraedit_passes import Passes
from language_models.architecture import parts
from language_models.delta import WeightDelta
from language_models.errors import NotReached, RequestError
from language_models.methods import require_positive, setting
from language_models.progress import Progress, silent
from language_models.replay import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from editing.kept_rows import Kept
    from editing.requests import EditRequest, EditResult
    from language_models.architecture import Projection
    from language_models.checkpoint import LanguageModel


@dataclass(frozen=True, kw_only=True)
class UltraEditConfig(BoundConfig):
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
    batch_size: int = setting(50, "facts solved for together", "measured", published=100)
    rounds: int = setting(10, "most passes over the facts of a batch", "measured", published=1)
    stop_loss: float = setting(
        0.2, "stop when the mean loss before a round is below", "measured", published=0.0
    )
    neighbour_weight: float = setting(
        10.0,
        "weight of each key that is to stay: of neighbours, and of the batches before",
        "measured; not in the paper",
        published=0.0,
    )
    neighbours_a_fact: int = setting(20, NEIGHBOURS_HELP, "measured", published=0)
    lead_ins: tuple[str, ...] = setting(
        (), "texts put before the prompts, in turn", "Lethe", private=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_place(self.place)
        require_positive(self, "step", "ridge", "batch_size", "rounds")
        if min(self.neighbour_weight, self.stop_loss, self.neighbours_a_fact) < 0:
            raise RequestError(
                "neighbour_weight, neighbours_a_fact and stop_loss must not be below zero."
            )


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
        found = _Batches(lm, requests, config, min(layers), places, statistics)
        found.run(progress or silent)
        if found.tried < len(requests) and config.unreached == "raise":
            raise NotReached(
                f"Neighbours bear only some of the first {found.tried} of {len(requests)} facts."
                " The weights are as before. Give fewer facts at a time, or mark those that are"
                " not reached."
            )
        change, rounding = _write(lm, places, found.deltas)
        details = {
            "method": "ultraedit",
            "site": {"layers": list(layers), "matrices": [one.name for one in places]},
            "rounding": rounding,
            "losses": found.losses,
            "share": found.shares,
            "facts_tried": found.tried,
            "rows_in_statistics": max(one.count for one in found.statistics.running.values()),
        }
        # Rows after lead-ins are solved for and do not count.
        targets = None if config.lead_ins else found
        memory = found.statistics.made(places)
        return conclude(lm, requests, change, config, details, memory, targets)


class System:
    """Keys H (n, d_in) and kept (k, d_in) to solve with, factorised once.

    The smaller of two equal systems is solved.
    """

    def __init__(self, H: Tensor, kept: Tensor, ridge: float) -> None:
        self.H, self.every = H, torch.cat([H, kept])
        self.dual = len(self.every) < H.shape[1]
        self.factor = torch.linalg.cholesky(self._gram(ridge))

    def _gram(self, ridge: float) -> Tensor:
        gram = self.every @ self.every.T if self.dual else self.every.T @ self.every
        gram.diagonal().add_(ridge)
        return gram

    def change(self, V: Tensor) -> Tensor:
        """Return Δ (d_out, d_in) for V (n, d_out), with 0 wanted at the kept keys."""
        if self.dual:
            wanted = V.new_zeros(len(self.every), V.shape[1])
            wanted[: len(V)] = V
            return torch.cholesky_solve(wanted, self.factor).T @ self.every
        return torch.cholesky_solve(self.H.T @ V, self.factor).T


def wanted_change(keys: Tensor, gradients: Tensor, step: float) -> Tensor:
    """Return V (n, d_out) = -η ‖ĥ‖² ĝ of standardised keys (n, d_in) and gradients (n, d_out)."""
    return -step * keys.square().sum(dim=1, keepdim=True) * gradients


class _Batches:
    """The change of each matrix so far, in float64, batch after batch, and the statistics so far.

    losses: per batch the mean loss before each round. shares: what is written of each batch.
    """

    def __init__(
        self,
        lm: LanguageModel,
        requests: Sequence[EditRequest],
        config: UltraEditConfig,
        first: int,
        places: Sequence[Projection],
        statistics: LifelongStatistics,
    ) -> None:
        self.lm, self.requests, self.config, self.statistics = lm, requests, config, statistics
        self.deltas = {
            one.name: torch.zeros_like(one.matrix, dtype=torch.float64) for one in places
        }
        self.passes = Passes(lm, first, places)
        self.end = end_mark(lm)
        self.targets: list[Kept] = []
        self.owners: list[int] = []
        self.losses: list[list[float]] = []
        self.shares: list[float] = []
        self.tried = 0
        self.checked: list[Kept] = []
        self.kept: dict[str, Tensor] = {}
        if config.neighbour_weight:
            drawn = drawn_neighbours(requests, config.neighbours_a_fact, config.seed)
            check = config.neighbours_lost < 1
            both = held_and_checked(drawn, config.seed) if check else (drawn, [])
            held, self.checked = (
                self.passes.keep(sorted(neighbour_rows(lm, one), key=lambda row: len(row.ids)))
                for one in both
            )
            self._hold(held)

    def run(self, report: Progress) -> None:
        """Solve for batch after batch, in the order of the requests, while neighbours bear it."""
        size = self.config.batch_size
        for start in range(0, len(self.requests), size):
            batch = self._rows(self.requests[start : start + size])
            before = dict(self.deltas)
            self.losses.append(self._rounds(batch, report))
            share = self._bound(batch, before)
            self.shares.append(share.written)
            if not share.borne or self.tried == len(self.requests):
                break
            self._hold(batch)
        report("rounds", self._most_rounds, self._most_rounds)

    @property
    def _most_rounds(self) -> int:
        return -(-len(self.requests) // self.config.batch_size) * self.config.rounds

    def achieved(self) -> list[dict[str, float]]:
        """Return what outcome.achieved returns, by the weights as they are now."""
        logits = self.passes.logits_now
        found = achieved_by(self.owners, self.targets, logits, self.tried, skip=len(self.end))
        rest = self.requests[self.tried :]
        return found + (achieved(self.lm, rest) if rest else [])

    def _hold(self, rows: Sequence[Kept]) -> None:
        """Let what is said to these rows now stay, as far as the next batches can."""
        if not rows or not self.config.neighbour_weight:
            return
        found = self.passes.keys(rows, self.deltas)
        self.kept = {
            name: torch.cat([self.kept[name], keys]) if self.kept else keys
            for name, keys in found.items()
        }

    def _rows(self, requests: Sequence[EditRequest]) -> list[Kept]:
        rows = target_rows(self.lm, requests, self.config.lead_ins, end=self.end)
        rows.sort(key=lambda row: len(row.ids))
        kept = self.passes.keep(rows)
        self.owners += [self.tried + row.owner for row in rows]
        self.targets += kept
        self.tried += len(requests)
        return kept

    def _rounds(self, batch: Sequence[Kept], report: Progress) -> list[float]:
        """Do all rounds of a batch; return its mean loss before each."""
        losses: list[float] = []
        systems: dict[str, System] = {}
        for turn in range(self.config.rounds):
            report("rounds", len(self.losses) * self.config.rounds + turn, self._most_rounds)
            losses.append(self._solve(batch, systems))
            if losses[-1] < self.config.stop_loss:
                break
        return losses

    def _bound(self, batch: Sequence[Kept], before: Mapping[str, Tensor]) -> Share:
        """Leave of the change since `before` what is to be written."""

        def part_of(share: float) -> dict[str, Tensor]:
            return {name: old + (new[name] - old) * share for name, old in before.items()}

        def logits(share: float) -> Callable[[Kept], Tensor]:
            deltas = part_of(share)
            return lambda kept: self.passes.logits(kept, deltas)

        new = self.deltas
        share = share_to_write(
            self.config,
            lambda part: reached_share(batch, logits(part), skip=len(self.end)),
            (lambda part: stayed_share(self.checked, logits(part))) if self.checked else None,
        )
        self.deltas = part_of(share.written)
        return share

    def _solve(self, batch: Sequence[Kept], systems: dict[str, System]) -> float:
        """Add a change for one batch; return its mean loss before it."""
        factors, loss = self._measure(batch)
        for name, (H, G) in factors.items():
            found = self.statistics.running[name].standardised(torch.cat([H, G], dim=1))
            V = wanted_change(found[:, : H.shape[1]], found[:, H.shape[1] :], self.config.step)
            change = self._system(name, H, systems).change(V)
            self.deltas[name] = self.deltas[name] + change
            if not torch.isfinite(change).all():
                raise NotReached("The steps broke down. Lower the step or raise the ridge.")
        return loss

    def _system(self, name: str, H: Tensor, known: dict[str, System]) -> System:
        """Return what a batch is solved with; below the lowest matrix nothing ever changes."""
        if name not in known:
            K = self.kept[name] * self.config.neighbour_weight**0.5 if self.kept else H[:0]
            found = System(H, K, self.config.ridge)
            if name != self.passes.lowest:
                return found
            known[name] = found
        return known[name]

    def _measure(self, batch: Sequence[Kept]) -> tuple[dict[str, tuple[Tensor, Tensor]], float]:
        """Return H and G per matrix at the tokens asked and the mean loss; count them in."""
        found, loss = self.passes.factors(batch, self.deltas)
        for name, (H, G) in found.items():
            self.statistics = self.statistics.with_rows(name, torch.cat([H, G], dim=1))
        return found, loss


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
