"""The values of many facts at once: δ, added at the edited token so that each target follows.

Loss per fact as in ROME, eq. 4: mean over contexts of the target's mean loss per token, plus the
divergence of what "{subject} is a" predicts from what it predicted before, plus the norm of δ.
Facts do not touch each other: their losses are summed, each has an Adam state and a stop of its
own, and the result is that of optimising them one after another. Only the blocks above the
edited one run, from kept states, on the tokens from the edited one on (language_models.replay).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from editing.adam import RowAdam
from language_models.replay import Replay, frozen, replay

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from editing.contexts import Contexts
    from editing.located_config import LocatedConfig
    from language_models.checkpoint import LanguageModel
    from language_models.progress import Progress


@dataclass(frozen=True)
class Value:
    """δ as float32 (d_model) and how it was reached."""

    delta: Tensor
    details: dict[str, Any]


def optimise_values(
    lm: LanguageModel,
    found: Sequence[Contexts],
    config: LocatedConfig,
    layer: int,
    report: Progress,
    *,
    of_block: bool = False,
) -> list[Value]:
    """Optimise one δ per request at `layer`; the weights stay as they are.

    of_block: norms are measured against the block's output (MEMIT), else the MLP's (ROME).
    """
    values: list[Value] = []
    chosen = [_for_value(one, config.value_wordings) for one in found]
    for chunk in _chunks(chosen, config.rows_per_pass):
        report("values", len(values), len(found))
        with frozen(lm):
            values += _Descent(lm, chunk, config, layer, of_block=of_block).run()
    report("values", len(found), len(found))
    return values


def _for_value(found: Contexts, wordings: int) -> Contexts:
    """Return the contexts of the first wordings: a value found in some holds in the others."""
    kept = [n for n, group in enumerate(found.groups) if group < wordings]
    names = ("rows", "starts", "positions", "counts", "groups")
    return replace(found, **{name: tuple(getattr(found, name)[n] for n in kept) for name in names})


def _chunks(found: Sequence[Contexts], most: int) -> Iterator[list[Contexts]]:
    """Cut the requests into runs of at most `most` rows, or of one request."""
    chunk: list[Contexts] = []
    rows = 0
    for one in found:
        if chunk and rows + len(one.rows) + 1 > most:
            yield chunk
            chunk, rows = [], 0
        chunk.append(one)
        rows += len(one.rows) + 1
    yield chunk


@dataclass(frozen=True)
class _Problem:
    """The rows of some facts; entry numbers count the facts of this problem.

    owner (b): fact of each row. The logits asked for: row and column (m), the token that must
    follow (m), fact (m), weight in the fact's loss (m). essence (n): the row of "{subject} is a".
    """

    replay: Replay
    owner: Tensor
    rows: Tensor
    columns: Tensor
    wanted: Tensor
    facts: Tensor
    shares: Tensor
    essence: Tensor

    def chances(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p of each wanted token (m) and all log p after each essence prompt (n, v)."""
        rows = torch.cat([self.rows, self.essence])
        columns = torch.cat([self.columns, torch.zeros_like(self.essence)])
        logits = self.replay.logits(delta[self.owner], rows, columns)
        found = logits.to(delta.dtype).log_softmax(dim=-1)
        wanted = self.wanted[:, None].to(found.device)
        picked = found[: len(self.rows)].gather(1, wanted).flatten()
        return picked.to(delta.device), found[len(self.rows) :].to(delta.device)

    def select(self, facts: Tensor) -> _Problem:
        """Return the problem of some of the facts, in the order given."""
        device = self.owner.device
        new_fact = torch.full((int(self.owner.max()) + 1,), -1, device=device)
        new_fact[facts] = torch.arange(len(facts), device=device)
        kept = (new_fact[self.owner] >= 0).nonzero().flatten()
        new_row = torch.full((len(self.owner),), -1, device=device)
        new_row[kept] = torch.arange(len(kept), device=device)
        asked = (new_fact[self.facts] >= 0).nonzero().flatten()
        return _Problem(
            self.replay.select(kept),
            new_fact[self.owner[kept]],
            new_row[self.rows[asked]],
            self.columns[asked],
            self.wanted[asked],
            new_fact[self.facts[asked]],
            self.shares[asked],
            new_row[self.essence[facts]],
        )


def _problem(lm: LanguageModel, found: Sequence[Contexts], layer: int) -> _Problem:
    rows: list[list[int]] = []
    starts, owner, essence = [], [], []
    asked: list[tuple[int, int, int, int, float]] = []
    for fact, one in enumerate(found):
        for row, start, at, count in zip(
            one.rows, one.starts, one.positions, one.counts, strict=True
        ):
            wanted = row[start:]
            share = count / sum(one.counts) / len(wanted)
            asked += [
                (len(rows), start + n - 1 - at, token, fact, share)
                for n, token in enumerate(wanted)
            ]
            # The last target token is not fed in, only asked for.
            rows.append(list(row[:-1]))
            starts.append(at)
            owner.append(fact)
        essence.append(len(rows))
        rows.append(list(one.essence[0]))
        starts.append(one.essence[1])
        owner.append(fact)
    columns = [torch.tensor(column, device=lm.device) for column in zip(*asked, strict=True)]
    return _Problem(
        replay(lm, rows, starts, layer),
        torch.tensor(owner, device=lm.device),
        rows=columns[0],
        columns=columns[1],
        wanted=columns[2],
        facts=columns[3],
        shares=columns[4],
        essence=torch.tensor(essence, device=lm.device),
    )


class _Descent:
    """Adam on the δ of several facts, each clamped after each step and stopped by its own loss."""

    def __init__(
        self,
        lm: LanguageModel,
        found: Sequence[Contexts],
        config: LocatedConfig,
        layer: int,
        *,
        of_block: bool,
    ) -> None:
        self.config = config
        self.problem = _problem(lm, found, layer)
        outputs = self.problem.replay.values
        if of_block:
            outputs = self.problem.replay.states[:, 0]
        # Never in the 16 bits of a model: small steps would vanish.
        precision = torch.promote_types(outputs.dtype, torch.float32)
        self.norms = _norms(outputs.to(lm.device, precision), found, config)
        self.delta = torch.zeros(len(found), outputs.shape[1], dtype=precision, device=lm.device)
        self.start = self.problem.chances(self.delta)[1].detach()
        self.active = torch.arange(len(found), device=lm.device)
        self.adam = RowAdam(self.delta, config.learning_rate)
        self.details: list[dict[str, Any]] = [{"contexts": len(one.rows)} for one in found]

    def run(self) -> list[Value]:
        """Return one value per fact."""
        # The published loop leaves before its last backward pass.
        updates = self.config.steps - 1 if self.config.compat else self.config.steps
        for step in range(updates + 1):
            delta = self.delta[self.active].requires_grad_()
            losses, total = self._losses(delta)
            stop = total if self.config.compat else losses
            done = (stop.detach() < self.config.stop_loss) | (step == updates)
            self._note(done, losses.detach(), step)
            if done.all():
                break
            (gradient,) = torch.autograd.grad(total.sum(), delta)
            self._update(gradient, ~done, step + 1)
            self._leave(done)
        return [
            Value(delta, details) for delta, details in zip(self.delta, self.details, strict=True)
        ]

    def _losses(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Return per active fact the target's loss and the whole loss."""
        config, problem = self.config, self.problem
        picked, essence = problem.chances(delta)
        losses = delta.new_zeros(len(delta))
        losses = losses.index_add(0, problem.facts, -picked * problem.shares.to(picked))
        start = self.start[self.active]
        drift = F.kl_div(start, essence, log_target=True, reduction="none").sum(dim=1)
        size = delta.norm(dim=1) / self.norms[self.active] ** 2
        return losses, losses + config.kl_weight * drift + config.norm_weight * size

    def _update(self, gradient: Tensor, going: Tensor, count: int) -> None:
        """One step of Adam and the clamp, for those still going."""
        at, config = self.active[going], self.config
        moved = self.delta[at] - self.adam.step(gradient[going], at, count)
        most = config.clamp * self.norms[at]
        scale = (most / moved.norm(dim=1).clamp(min=1e-12)).clamp(max=1.0)
        self.delta[at] = moved * scale[:, None]

    def _note(self, done: Tensor, losses: Tensor, step: int) -> None:
        for place in done.nonzero().flatten().tolist():
            fact = int(self.active[place])
            self.details[fact] |= {
                "value_loss": float(losses[place]),
                "steps": step,
                "value_norm": float(self.delta[fact].norm() / self.norms[fact]),
            }

    def _leave(self, done: Tensor) -> None:
        """Take finished facts out of the problem."""
        if done.any():
            going = (~done).nonzero().flatten()
            self.problem = self.problem.select(going)
            self.active = self.active[going]


def _norms(outputs: Tensor, found: Sequence[Contexts], config: LocatedConfig) -> Tensor:
    """Return per fact the norm of its present output: of the mean over contexts, or row 0's."""
    norms, at = [], 0
    for one in found:
        mine = outputs[at : at + len(one.rows)]
        norms.append((mine[0] if config.compat else mine.mean(dim=0)).norm())
        at += len(one.rows) + 1
    return torch.stack(norms)
