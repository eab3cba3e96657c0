"""The loop that fine-tuning and LoRA share: breadth first over all facts, neighbours held.

Every epoch passes over all rows in shuffled batches (LocFT-BF, ICLR 2026): fact after fact would
overwrite the one before. Loss: mean over rows of the target's mean loss per token, plus the
divergence from the unchanged model at the neighbours. Rows are kept at the lowest block that is
trained, so a step costs only the blocks from there up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from editing.kept_blocks import keep_blocks
from editing.kept_rows import Kept, achieved_by, reached_share, row_losses, stayed_share
from editing.requests import EditConfig
from editing.training_rows import (
    NEIGHBOURS_HELP,
    Row,
    asked,
    drawn_neighbours,
    held_and_checked,
    neighbour_rows,
    target_rows,
)
from language_models.errors import NotReached, RequestError
from language_models.methods import require_positive, setting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from editing.requests import EditRequest
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress

# Batches are drawn from pools of this many batches of rows of about one length: little is padded.
BATCHES_PER_POOL = 4


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(EditConfig):
    """Settings of the methods that train."""

    epochs: int = setting(40, "most passes over all rows", "measured", published=25)
    learning_rate: float = setting(
        3e-3,
        "Adam's learning rate; less for wider models",
        "measured at 3 million parameters; published at 8 billion",
        published=5e-4,
    )
    batch_size: int = setting(32, "rows a step", "measured", published=100)
    stop_loss: float = setting(
        0.05, "stop when an epoch's mean loss is below", "measured", published=1e-2
    )
    neighbour_weight: float = setting(
        1.0, "weight of the divergence at the neighbours' prompts", "measured", published=0.0
    )
    neighbour_rows: int = setting(16, "neighbours a step", "measured")
    neighbour_tokens: int = setting(1, "tokens after each neighbour that are held", "measured")
    neighbours_a_fact: int = setting(8, NEIGHBOURS_HELP, "measured", published=0)
    lead_ins: tuple[str, ...] = setting(
        (), "texts put before the prompts, in turn", "Lethe", private=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "epochs", "learning_rate", "batch_size")
        require_positive(self, "neighbour_rows", "neighbour_tokens")
        if min(self.neighbour_weight, self.stop_loss, self.neighbours_a_fact) < 0:
            raise RequestError(
                "neighbour_weight, neighbours_a_fact and stop_loss must not be below zero."
            )


class Training:
    """The rows of some requests, kept at block `first`, and the loop over them.

    watched: a matrix below `first` whose inputs and outputs are kept too. end: what each row ends
    with. check: whether some neighbours are only looked at. The model is expected at rest: no
    dropout, no gradient of its own weights.
    """

    def __init__(
        self,
        lm: LanguageModel,
        requests: Sequence[EditRequest],
        config: TrainingConfig,
        first: int,
        *,
        watched: nn.Module | None = None,
        end: tuple[int, ...] = (),
        at_prompt: bool = False,
        check: bool = False,
    ) -> None:
        self.lm, self.config, self.first, self.watched = lm, config, first, watched
        rows = target_rows(lm, requests, config.lead_ins, end=end)
        self.skip = len(end)
        self.targets = self._pools(rows, config.batch_size, at_prompt=at_prompt)
        held: list[Row] = []
        checked: list[Row] = []
        if config.neighbour_weight:
            drawn = drawn_neighbours(requests, config.neighbours_a_fact, config.seed)
            both = held_and_checked(drawn, config.seed) if check else (drawn, [])
            held, checked = (neighbour_rows(lm, one, config.neighbour_tokens) for one in both)
        self.held = self._pools(held, config.neighbour_rows)
        self.checked = self._pools(checked, config.neighbour_rows)
        self.generator = torch.Generator().manual_seed(config.seed)

    def fit(
        self,
        weights: Sequence[Tensor],
        logits: Callable[[Kept], Tensor],
        report: Progress,
        after_step: Callable[[], None] = lambda: None,
    ) -> dict[str, Any]:
        """Train `weights` in place and return how it went.

        logits: from kept rows to the logits (m, v) of what is asked of them. Raises NotReached
        when a loss is no longer a number.
        """
        optimiser = torch.optim.Adam(weights, lr=self.config.learning_rate)
        held = self._held_for_ever()
        losses: list[float] = []
        steps = 0
        for epoch in range(self.config.epochs):
            report("train", epoch, self.config.epochs)
            total, rows = 0.0, 0
            for batch in self._epoch(self.targets, self.config.batch_size):
                loss = row_losses(logits(batch), batch.asked, len(batch)).mean()
                whole = loss + self._drift(next(held, None), logits)
                for weight, slope in zip(weights, torch.autograd.grad(whole, weights), strict=True):
                    weight.grad = slope
                optimiser.step()
                after_step()
                total += float(loss.detach()) * len(batch)
                rows += len(batch)
                steps += 1
            losses.append(total / rows)
            if not math.isfinite(losses[-1]):
                raise NotReached("Training broke down. Lower the learning rate.")
            if losses[-1] < self.config.stop_loss:
                break
        report("train", self.config.epochs, self.config.epochs)
        return {
            "rows": sum(len(pool.rows) for pool in self.targets),
            "held_rows": sum(len(pool.rows) for pool in self.held),
            "epochs": len(losses),
            "steps": steps,
            "losses": losses,
        }

    def reached(self, logits: Callable[[Kept], Tensor]) -> float:
        """Return the share of target rows that come first, as kept_rows.reached_share counts."""
        return reached_share([pool.kept for pool in self.targets], logits, skip=self.skip)

    def stayed(self, logits: Callable[[Kept], Tensor]) -> float:
        """Return the share of neighbours' tokens at which the same comes first as before."""
        return stayed_share([pool.kept for pool in self.checked], logits)

    def achieved(self, logits: Callable[[Kept], Tensor], count: int) -> list[dict[str, float]]:
        """Return what outcome.achieved returns for `count` requests, from the kept rows.

        Only without lead-ins, whose rows do not count there; the end mark does not either.
        """
        owners = [row.owner for pool in self.targets for row in pool.rows]
        kept = [pool.kept for pool in self.targets]
        return achieved_by(owners, kept, logits, count, skip=self.skip)

    def _drift(self, batch: Kept | None, logits: Callable[[Kept], Tensor]) -> Tensor | float:
        """Return the weighted divergence at some neighbours from what they predicted before."""
        if batch is None:
            return 0.0
        with torch.no_grad():
            model = batch.blocks.model
            before = model.logits(model.final_norm(batch.before)).float().log_softmax(dim=-1)
        now = logits(batch).float().log_softmax(dim=-1)
        each = F.kl_div(now, before, log_target=True, reduction="none").sum(dim=-1)
        mean = (each * batch.asked.shares.to(each)).sum() / len(batch)
        return mean * self.config.neighbour_weight

    def _pools(self, rows: Sequence[Row], batch: int, *, at_prompt: bool = False) -> list[_Pool]:
        ordered = sorted(rows, key=lambda row: len(row.ids))
        size = batch * BATCHES_PER_POOL
        cut = [ordered[start : start + size] for start in range(0, len(ordered), size)]
        return [_Pool(self, part, at_prompt=at_prompt) for part in cut]

    def _epoch(self, pools: Sequence[_Pool], size: int) -> Iterator[Kept]:
        """Yield all rows once, in shuffled batches."""
        found: list[tuple[_Pool, Tensor | None]] = []
        for pool in pools:
            if len(pool.rows) <= size:
                found.append((pool, None))
                continue
            mixed = torch.randperm(len(pool.rows), generator=self.generator).to(self.lm.device)
            found += [(pool, part) for part in torch.split(mixed, size)]
        for number in torch.randperm(len(found), generator=self.generator).tolist():
            pool, part = found[number]
            yield pool.kept if part is None else pool.kept.select(part)

    def _held_for_ever(self) -> Iterator[Kept]:
        while self.held:
            yield from self._epoch(self.held, self.config.neighbour_rows)


class _Pool:
    """Rows of about one length, kept when they are first needed: a short training needs few."""

    def __init__(self, training: Training, rows: Sequence[Row], *, at_prompt: bool) -> None:
        self.training, self.rows, self.at_prompt = training, rows, at_prompt

    @cached_property
    def kept(self) -> Kept:
        """The rows, run once on the model's own weights, which training does not touch."""
        training = self.training
        # The last token is not fed in, only asked for.
        ids = [row.ids[:-1] for row in self.rows]
        watched = [] if training.watched is None else [training.watched]
        blocks, last, seen = keep_blocks(training.lm, ids, training.first, watched)
        wanted = asked(training.lm, self.rows, at_prompt=self.at_prompt)
        return Kept(blocks, wanted, last[wanted.rows, wanted.columns], *seen).narrowed()
