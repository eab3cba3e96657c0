"""What an edit achieved, measured on the changed weights: never a silent no-op.

Every method ends here. Per request: the target's loss and in which share of its wordings every
target token is the most likely one. Per tensor: how much of it changed, and what rounding to
the model's own number format took from the planned change.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from editing.kept_blocks import KeptBlocks, keep_blocks
from editing.requests import EditResult
from language_models.architecture import parts
from language_models.errors import NotReached
from language_models.methods import public_config
from language_models.positions import fill, with_target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from editing.contexts import Contexts
    from editing.requests import EditConfig, EditRequest, Memory
    from language_models.checkpoint import LanguageModel
    from language_models.delta import WeightDelta

ROWS_PER_PASS = 128


class Achieving(Protocol):
    """Rows of requests that are there already, with what they need to be scored."""

    def achieved(self) -> list[dict[str, float]]:
        """Return what `achieved` returns, by the weights as they are now."""


def conclude(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    delta: WeightDelta,
    config: EditConfig,
    details: Mapping[str, Any],
    memory: Memory | None = None,
    targets: Achieving | None = None,
) -> EditResult:
    """Measure the change that `delta` has made to `lm` and return the result.

    details: what the method itself tells; under "requests" one mapping per request. targets: the
    requests' rows, where they are there already. With config.unreached "raise", a request that is
    not reached brings the weights back and raises NotReached; with "mark" it stays, with reached
    = False in its row.
    """
    own = details.get("requests", [{} for _ in requests])
    found_now = achieved(lm, requests) if targets is None else targets.achieved()
    rows = [
        {**told, **found, "reached": found["target_first"] >= config.min_wordings}
        for told, found in zip(own, found_now, strict=True)
    ]
    missed = [row for row in rows if not row["reached"]]
    if missed and config.unreached == "raise":
        delta.revert(lm)
        raise NotReached(_unreached(missed, len(rows), config.min_wordings))
    told = {
        "config": public_config(config),
        **details,
        "requests": rows,
        "tensors": delta.measures(),
        "neighbours": sum(len(request.neighbours) for request in requests),
    }
    return EditResult(delta, told, memory)


def achieved(lm: LanguageModel, requests: Sequence[EditRequest]) -> list[dict[str, float]]:
    """Return per request the target's mean loss per token and where it comes first.

    loss: nats, mean over the wordings of the mean over target tokens. target_first: share of the
    wordings in which every target token is the most likely one.
    """
    rows, starts, owner = [], [], []
    for number, request in enumerate(requests):
        for wording in request.wordings:
            ids, start = with_target(lm, fill(wording, request.subject), request.target)
            rows.append(ids)
            starts.append(start)
            owner.append(number)
    # Scored once: no block needs to be run again.
    return Targets(lm, rows, starts, owner, first=len(parts(lm.model).blocks)).achieved()


class Targets:
    """The token rows of prompts with their targets, to be scored again after each change.

    Only the blocks from `first` on are run again: nothing below it may change in between.
    """

    def __init__(
        self,
        lm: LanguageModel,
        rows: Sequence[Sequence[int]],
        starts: Sequence[int],
        owner: Sequence[int],
        first: int,
    ) -> None:
        """starts: index of the first target token per row. owner: number of its request."""
        self.owner = owner
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        self.parts = [
            _Part.of(lm, rows, starts, order[begin : begin + ROWS_PER_PASS], first)
            for begin in range(0, len(order), ROWS_PER_PASS)
        ]

    @classmethod
    def of_bare(cls, lm: LanguageModel, contexts: Sequence[Contexts], first: int) -> Targets:
        """Return the bare wordings of requests, from their contexts."""
        rows, starts, owner = [], [], []
        for number, one in enumerate(contexts):
            for row in one.bare:
                rows.append(one.rows[row])
                starts.append(one.starts[row])
                owner.append(number)
        return cls(lm, rows, starts, owner, first)

    def achieved(self) -> list[dict[str, float]]:
        """Return what `achieved` returns, by the weights as they are now."""
        losses, first = [0.0] * len(self.owner), [0.0] * len(self.owner)
        for part in self.parts:
            for index, loss, comes_first in zip(part.indices, *part.scores(), strict=True):
                losses[index], first[index] = loss, comes_first
        count = Counter(self.owner)
        found = [{"loss": 0.0, "target_first": 0.0} for _ in count]
        for number, loss, comes_first in zip(self.owner, losses, first, strict=True):
            found[number]["loss"] += loss / count[number]
            found[number]["target_first"] += comes_first / count[number]
        return found


@dataclass(frozen=True)
class _Part:
    """Some rows together; at (m, 2): row and column of each target token's prediction."""

    indices: list[int]
    kept: KeptBlocks
    at: torch.Tensor
    wanted: torch.Tensor

    @classmethod
    def of(
        cls,
        lm: LanguageModel,
        rows: Sequence[Sequence[int]],
        starts: Sequence[int],
        indices: list[int],
        first: int,
    ) -> _Part:
        # The last target token is not fed in, only asked for.
        kept, _, _ = keep_blocks(lm, [rows[index][:-1] for index in indices], first)
        asked = [
            (place, column - 1, rows[index][column])
            for place, index in enumerate(indices)
            for column in range(starts[index], len(rows[index]))
        ]
        table = torch.tensor(asked, device=lm.device)
        return cls(indices, kept, table[:, :2], table[:, 2])

    @torch.no_grad()
    def scores(self) -> tuple[list[float], list[float]]:
        """Return per row the mean loss of its target tokens and whether all come first."""
        logits = self.kept.logits(self.at[:, 0], self.at[:, 1]).float()
        wanted, row = self.wanted.to(logits.device), self.at[:, 0].to(logits.device)
        lost = torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
        first = (logits.argmax(dim=-1) == wanted).float()
        zeros = torch.zeros(len(self.indices), device=logits.device)
        tokens = zeros.index_add(0, row, torch.ones_like(lost))
        losses = zeros.index_add(0, row, lost) / tokens
        # A share below one means that some token does not come first.
        everywhere = (zeros.index_add(0, row, first) / tokens == 1).float()
        return losses.tolist(), everywhere.tolist()


def _unreached(missed: Sequence[Mapping[str, Any]], total: int, least: float) -> str:
    worst = min(row["target_first"] for row in missed)
    return (
        f"{len(missed)} of {total} edits were not reached: the target comes first in {worst:.0%}"
        f" of the wordings at worst, not in {least:.0%}. The weights are as before. Look at the"
        " trace, allow more steps or a larger change, or choose another method."
    )
