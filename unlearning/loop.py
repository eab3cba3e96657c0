"""The training loop of all approximate methods: a few terms, summed anew at every step.

A term draws some texts a step and its loss is their mean, over texts or over scored tokens, of the
whole step, however many passes it is made in (transformers' own Trainer scales a custom loss
otherwise under accumulation). The texts of a pass are of like length, so there is little padding.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from language_models.attention import exchangeable
from language_models.errors import NotReached, RequestError
from language_models.methods import public_config
from language_models.progress import Progress, silent
from unlearning.gates import Gates, Watch
from unlearning.losses import divergence
from unlearning.results import Text, UnlearnResult
from unlearning.rows import Row, predictions, rows_of
from unlearning.settings import DIVERGENCE, LoopConfig, RetainConfig, RetainTextsConfig
from unlearning.weights import Adapter, Weights, training

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from language_models.checkpoint import LanguageModel
    from language_models.delta import WeightDelta
    from unlearning.losses import Predictions

# What a further pass costs, in padded tokens that it must save. On two cores 96 to 400 are alike;
# elsewhere it is a guess, not measured: a GPU is idle at small passes.
PASS_COST = {"cpu": 200}
PASS_COST_ELSEWHERE = 4096


@dataclass(frozen=True)
class Term:
    """One part of the loss.

    loss: from numbers of texts to their losses (b). shares: what each text counts in the mean of a
    step, 1 or its scored tokens. lengths: tokens of each text in a pass. batch: texts a step.
    """

    name: str
    weight: float
    batch: int
    lengths: Sequence[int]
    shares: Sequence[float]
    loss: Callable[[list[int]], Tensor]


@dataclass(frozen=True)
class Task:
    """What a method builds its terms from: the texts as rows, and the weights that are trained."""

    lm: LanguageModel
    trained: Weights | Adapter
    forget: list[Row]
    retain: list[Row]
    config: LoopConfig

    def predictions(self, rows: Sequence[Row], chosen: Sequence[int]) -> Predictions:
        """Return what the model predicts of the chosen rows."""
        return predictions(self.lm, [rows[index] for index in chosen])

    def before(self, rows: Sequence[Row], chosen: Sequence[int]) -> Predictions:
        """The same by the weights before, without gradients."""
        with self.trained.as_before():
            return self.predictions(rows, chosen)

    @torch.no_grad()
    def losses(self, rows: Sequence[Row]) -> Tensor:
        """Return -log p of each row (n) by the weights as they are now."""
        found = torch.zeros(len(rows), device=self.lm.device)
        lengths = [len(row.ids) for row in rows]
        for part in passes(range(len(rows)), lengths, self.config.tokens_per_pass, self.cost):
            found[part] = self.predictions(rows, part).losses.to(found.device)
        return found

    @property
    def cost(self) -> int:
        """What a further pass costs on this device, in tokens: all, where nothing is padded."""
        if exchangeable(self.lm):
            return self.config.tokens_per_pass
        return PASS_COST.get(self.lm.device.type, PASS_COST_ELSEWHERE)

    def by_text(self, loss: Callable[[list[int]], Tensor], lengths: Sequence[int] = ()) -> Term:
        """Return the forget term whose loss is a mean over texts."""
        known = lengths or [len(row.ids) for row in self.forget]
        return self._forget(loss, known, [1.0] * len(self.forget))

    def by_token(self, loss: Callable[[list[int]], Tensor], skipped: int = 0) -> Term:
        """Return the forget term whose loss is a mean over scored tokens, some left out."""
        shares = [float(max(row.scored - skipped, 0)) for row in self.forget]
        return self._forget(loss, [len(row.ids) for row in self.forget], shares)

    def retained(self, loss: Callable[[list[int]], Tensor] | None = None) -> list[Term]:
        """Return the retain term, a mean over scored tokens; none where its weight is 0.

        loss: without one, what `retain_loss` says.
        """
        config = self.config
        if not isinstance(config, RetainConfig) or not config.retain_weight:
            return []
        own = loss or self._retain_loss(config)
        shares = [float(row.scored) for row in self.retain]
        lengths = [len(row.ids) for row in self.retain]
        return [Term("retain", config.retain_weight, config.retain_batch, lengths, shares, own)]

    def drift(self, chosen: list[int]) -> Tensor:
        """Return KL(before ‖ now) of the chosen retain texts over their scored tokens, (b)."""
        before = self.before(self.retain, chosen).log_chances
        return divergence(before, self.predictions(self.retain, chosen))

    def _retain_loss(self, config: RetainConfig) -> Callable[[list[int]], Tensor]:
        if isinstance(config, RetainTextsConfig) and config.retain_loss == DIVERGENCE:
            return self.drift
        return lambda chosen: self.predictions(self.retain, chosen).losses

    def _forget(
        self,
        loss: Callable[[list[int]], Tensor],
        lengths: Sequence[int],
        shares: Sequence[float],
    ) -> Term:
        config = self.config
        return Term("forget", config.forget_weight, config.forget_batch, lengths, shares, loss)


def unlearned(
    method: str,
    lm: LanguageModel,
    forget: Sequence[Text],
    retain: Sequence[Text],
    config: LoopConfig,
    terms: Callable[[Task], list[Term]],
    progress: Progress | None = None,
    gates: Gates | None = None,
    finish: Callable[[Weights | Adapter], None] | None = None,
) -> UnlearnResult:
    """Train by the terms of a method and return the exact change.

    With gates, the share of the change that they ask for is written. finish: what is done to the
    trained weights at the end; then gates and floor are looked at only after it. Raises NotReached
    when training broke down, general ability fell below the floor or the gates do not hold at the
    end; the weights are as before then.
    """
    started = time.monotonic()
    rows = rows_of(lm, forget, config.max_tokens)
    kept = rows_of(lm, retain, config.max_tokens)
    with training(lm, config) as trained:
        watch = Watch(lm, kept, gates, config.floor)
        task = Task(lm, trained, rows, kept, config)
        losses = fit(task, terms(task), None if finish else watch, progress or silent)
        if finish is not None:
            finish(trained)
        delta, change = _concluded(trained, watch, len(losses))
    details = {
        "method": method,
        "config": public_config(config),
        "forget_texts": len(forget),
        "retain_texts": len(retain),
        "steps": len(losses),
        "losses": losses,
        "before": watch.before,
        "looks": watch.looks,
        "tensors": list(delta.entries),
        **({"share": watch.share, "margin": watch.margin} if gates else {}),
        "relative_change": change,
        "seconds": round(time.monotonic() - started, 2),
    }
    return UnlearnResult(delta, details)


def _concluded(trained: Weights | Adapter, watch: Watch, step: int) -> tuple[WeightDelta, float]:
    """Write the share that holds the gates; return the change and its relative size."""
    if not watch.held:
        watch.conclude(step, trained)
    if watch.share != 1:
        trained.keep(watch.share)
    concluded = trained.conclude()
    # An adapter was looked at beside the weights; what counts is what was written into them.
    if isinstance(trained, Adapter):
        watch.conclude(step)
    return concluded


def fit(
    task: Task, terms: Sequence[Term], watch: Watch | None, report: Progress
) -> list[dict[str, float]]:
    """Change the weights in place until the gates hold; return the losses of every step."""
    config = task.config
    drawn = [
        turns(len(term.lengths), term.batch, config.seed + number)
        for number, term in enumerate(terms)
    ]
    optimiser = _adamw(task.trained.parameters, config)
    falling = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, total_iters=config.steps)
    losses: list[dict[str, float]] = []
    for step in range(1, config.steps + 1):
        optimiser.zero_grad()
        found = {
            term.name: add_gradient(term, next(turn), config.tokens_per_pass, task.cost)
            for term, turn in zip(terms, drawn, strict=True)
        }
        norm = torch.nn.utils.clip_grad_norm_(task.trained.parameters, config.max_gradient)
        if not torch.isfinite(norm):
            raise NotReached(
                "Training broke down. Lower the learning rate. The weights are as before."
            )
        optimiser.step()
        falling.step()
        losses.append({name: float(value) for name, value in found.items()})
        report("unlearn", step, config.steps)
        due = step % config.check_every == 0 and step < config.steps
        if watch is not None and due and watch.look(step, task.trained):
            break
    return losses


def _adamw(parameters: Sequence[Tensor], config: LoopConfig) -> torch.optim.Optimizer:
    """Return AdamW, with moments in 8 bits if asked; raise RequestError where that cannot be."""
    rate, decay = config.learning_rate, config.weight_decay
    if not config.eight_bit:
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
    if any(one.device.type != "cuda" for one in parameters):
        raise RequestError("eight_bit needs the model on an NVIDIA GPU. Leave it off elsewhere.")
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise RequestError("eight_bit needs the package bitsandbytes. Install it.") from error
    optimiser: torch.optim.Optimizer = AdamW8bit(parameters, lr=rate, weight_decay=decay)
    return optimiser


def add_gradient(term: Term, chosen: Sequence[int], most: int, cost: int) -> Tensor:
    """Add the gradient of a term over the chosen texts to the weights; return its loss, ()."""
    share = sum(term.shares[index] for index in chosen)
    total = torch.zeros(())
    for part in passes(chosen, term.lengths, most, cost):
        loss = term.loss(part).sum() / share
        (term.weight * loss).backward()  # type: ignore[no-untyped-call]
        total = total.to(loss.device) + loss.detach()
    return total


def passes(chosen: Sequence[int], lengths: Sequence[int], most: int, cost: int) -> list[list[int]]:
    """Split texts into passes such that padded tokens plus `cost` a pass are the fewest.

    No pass has more than `most` padded tokens, unless one text alone has.
    """
    order = sorted(chosen, key=lambda index: lengths[index])
    least, begins = [0], [0]  # of the first texts: fewest tokens, and where their last pass begins
    for end in range(1, len(order) + 1):
        width = lengths[order[end - 1]]
        options = [(least[end - 1] + cost + width, end - 1)]
        for begin in range(end - 2, -1, -1):
            padded = (end - begin) * width
            if padded > most:
                break
            options.append((least[begin] + cost + padded, begin))
        fewest, begin = min(options)
        least.append(fewest)
        begins.append(begin)
    parts, end = [], len(order)
    while end:
        parts.append(order[begins[end] : end])
        end = begins[end]
    return parts[::-1]


def turns(count: int, size: int, seed: int) -> Iterator[list[int]]:
    """Endless batches; every text comes once before any comes again, and none twice in a batch."""
    generator = torch.Generator().manual_seed(seed)
    size = min(size, count)
    queue: list[int] = []
    while True:
        if len(queue) < size:
            drawn = torch.randperm(count, generator=generator).tolist()
            # What still waits for this batch comes later in the new round.
            queue += sorted(drawn, key=set(queue).__contains__)
        yield queue[:size]
        queue = queue[size:]
