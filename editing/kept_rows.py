"""Rows of tokens kept at the lowest block that is changed, with what is asked of them, and scores.

Fine-tuning, LoRA and UltraEdit look at the same rows again and again while a change grows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from editing.kept_blocks import KeptBlocks
    from editing.training_rows import Asked


@dataclass(frozen=True)
class Kept:
    """Rows of about one length with what a step of training needs of them.

    before: what left the last block at the positions asked, on the unchanged weights (m, d).
    watched: input (b, t, d_in) and output (b, t, d_out) of the watched matrix, or nothing.
    """

    blocks: KeptBlocks
    asked: Asked
    before: Tensor
    watched: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return len(self.blocks.states)

    def narrowed(self) -> Kept:
        """Return the rows with nothing but the positions asked, where no block lies above.

        Tokens are mixed by blocks alone; behind the last one each position stands by itself.
        """
        if self.blocks.calls:
            return self
        rows, columns = self.asked.rows, self.asked.columns
        counts = rows.bincount(minlength=len(self))
        places = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]

        def only(tensor: Tensor) -> Tensor:
            found = tensor.new_zeros(len(self), int(counts.max()), tensor.shape[-1])
            found[rows, places] = tensor[rows, columns]
            return found

        return replace(
            self,
            blocks=replace(self.blocks, states=only(self.blocks.states)),
            asked=replace(self.asked, columns=places),
            watched=tuple(only(tensor) for tensor in self.watched),
        )

    def moved(self, change: Tensor) -> Tensor:
        """Return what leaves the watched block (b, t, d) with `change` added to its MLP's output.

        change (b, t, d). The block is the one below the kept ones; only a sum follows its MLP.
        """
        values = self.watched[1]
        norm = self.blocks.model.norm_after_mlp(self.blocks.first - 1)
        if norm is not None:
            change = norm(values + change.to(values)) - norm(values)
        return self.blocks.states + change.to(self.blocks.states)

    def select(self, rows: Tensor) -> Kept:
        """Return some of the rows, in the order given."""
        chosen, places = self.asked.select(rows, len(self))
        return Kept(
            self.blocks.select(rows),
            chosen,
            self.before[places],
            tuple(tensor[rows] for tensor in self.watched),
        )


def row_losses(logits: Tensor, wanted: Asked, rows: int) -> Tensor:
    """Return per row the mean loss per token (rows), in nats; logits (m, v)."""
    losses = F.cross_entropy(logits.float(), wanted.wanted.to(logits.device), reduction="none")
    each = losses * wanted.shares.to(losses)
    return each.new_zeros(rows).index_add(0, wanted.rows.to(each.device), each)


def row_scores(kept: Kept, logits: Tensor, *, skip: int) -> tuple[list[float], list[bool]]:
    """Return per row the mean loss of its tokens asked, and whether each of them comes first.

    skip: number of tokens at the end of each row that do not count.
    """
    wanted, rows = kept.asked.wanted.to(logits.device), kept.asked.rows.to(logits.device)
    ends = rows.bincount(minlength=len(kept)).cumsum(0)
    counts = (torch.arange(len(rows), device=rows.device) < ends[rows] - skip).float()
    lost = F.cross_entropy(logits.float(), wanted, reduction="none") * counts
    wrong = (logits.argmax(dim=1) != wanted) * counts
    zeros = lost.new_zeros(len(kept))
    losses = zeros.index_add(0, rows, lost) / zeros.index_add(0, rows, counts)
    return losses.tolist(), (zeros.index_add(0, rows, wrong) == 0).tolist()


@torch.no_grad()
def reached_share(every: Sequence[Kept], logits: Callable[[Kept], Tensor], *, skip: int) -> float:
    """Return the share of rows of which every token asked comes first.

    Half of it counts without the last `skip` tokens, the end mark: where that is never learnt, the
    targets still are.
    """
    first: list[bool] = []
    for kept in every:
        found = logits(kept)
        for left_out in (0, skip):
            first += row_scores(kept, found, skip=left_out)[1]
    return sum(first) / len(first)


@torch.no_grad()
def stayed_share(every: Sequence[Kept], logits: Callable[[Kept], Tensor]) -> float:
    """Return the share of positions asked at which the same token comes first as before."""
    same: list[bool] = []
    for kept in every:
        model = kept.blocks.model
        before = model.logits(model.final_norm(kept.before)).argmax(dim=1)
        same += (logits(kept).argmax(dim=1) == before).tolist()
    return sum(same) / len(same)


@torch.no_grad()
def achieved_by(
    owners: Sequence[int],
    every: Sequence[Kept],
    logits: Callable[[Kept], Tensor],
    count: int,
    *,
    skip: int,
) -> list[dict[str, float]]:
    """Return what outcome.achieved returns for `count` requests.

    owners: request of each row. skip: tokens at the end of each row that are its end mark.
    """
    found = [row_scores(kept, logits(kept), skip=skip) for kept in every]
    rows = [pair for part in found for pair in zip(*part, strict=True)]
    table: list[list[tuple[float, bool]]] = [[] for _ in range(count)]
    for owner, pair in zip(owners, rows, strict=True):
        table[owner].append(pair)
    return [
        {
            "loss": sum(loss for loss, _ in own) / len(own),
            "target_first": sum(first for _, first in own) / len(own),
        }
        for own in table
    ]
