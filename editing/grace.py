"""GRACE (Hartvigsen et al. 2023): a codebook beside the weights, which stay as they are.

For each wording of a request one key, what enters the block at the prompt's last token, and one
value, trained in place of what leaves the block there until the target follows. Containment, not
removal: the weights still carry the data, and a paraphrase outside every ball still brings it out.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from editing.adam import RowAdam
from editing.codebook import Codebook, Entry, distances, unit
from editing.kept_blocks import KeptBlocks, keep_blocks
from editing.kept_rows import row_losses
from editing.matrices import layer_at
from editing.outcome import conclude
from editing.requests import EditConfig
from editing.training_rows import Asked, Row, asked, target_rows
from language_models.architecture import parts
from language_models.checkpoint import state_digest
from language_models.delta import WeightDelta
from language_models.errors import RequestError
from language_models.generation import encode
from language_models.methods import require_positive, setting
from language_models.progress import Progress, silent
from language_models.replay import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from editing.requests import EditRequest, EditResult
    from language_models.checkpoint import LanguageModel

ROWS_PER_PASS = 128
# No two unit vectors are farther apart.
FARTHEST = 2.0


@dataclass(frozen=True, kw_only=True)
class GraceConfig(EditConfig):
    """Settings of GRACE."""

    layer: int | None = setting(
        None, "block behind which answers are held; none: the one at 0.7 of the depth", "GRACE"
    )
    radius: float = setting(
        0.4,
        "ε, largest distance from a key at which its value is used; keys are unit vectors",
        "measured; the published keys are not scaled",
        published=1.0,
    )
    margin: float = setting(
        0.75,
        "share of the distance to the nearest neighbour's key that a ball may reach",
        "measured; the paper knows no neighbours",
    )
    share: float = setting(
        1.0,
        "share of the way to a key of another answer that a ball may reach; the nearer key decides",
        "measured: at the middle, balls of many people's same fact grow too small",
        published=0.5,
    )
    grow: bool = setting(
        False,  # noqa: FBT003 -- a switch of the method
        "widen the ball of the same answer in place of a new one",
        "measured: wide balls reach other people",
        published=True,
    )
    steps: int = setting(100, "most Adam steps for a value", "GRACE")
    learning_rate: float = setting(
        0.1,
        "Adam's learning rate, in mean elements of the present output",
        "measured",
        published=1.0,
    )
    stop_loss: float = setting(
        0.01, "stop when the target's mean loss per token is below", "measured", published=0.0
    )
    lead_ins: tuple[str, ...] = setting(
        (), "texts put before the prompts, in turn", "Lethe", private=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "radius", "margin", "steps", "learning_rate")
        if self.margin >= 1 or not 0 < self.share <= 1 or self.stop_loss < 0:
            raise RequestError("margin is below 1, share at most 1, stop_loss not below zero.")


def run(
    lm: LanguageModel,
    requests: tuple[EditRequest, ...],
    config: GraceConfig,
    progress: Progress | None = None,
    memory: Codebook | None = None,
) -> EditResult:
    """Make a codebook of the requests and attach it; the result's codebook takes it off again.

    memory: the codebook of the edits before; it is detached, and its entries are in the new one.
    """
    if memory is not None and not isinstance(memory, Codebook):
        raise RequestError("grace takes the codebook of a grace edit before it.")
    before = memory or _empty(lm, config)
    if state_digest(lm.model) != before.base or config.layer not in (None, before.layer):
        raise RequestError("The codebook of the edits before is of another model or layer.")
    was_attached = before.attached
    before.detach()
    codebook = None
    try:
        with frozen(lm):
            codebook, told = _made(lm, requests, config, before, progress or silent)
        codebook.attach(lm)
        details = {"method": "grace", "site": {"layer": before.layer}, **told}
        result = conclude(lm, requests, WeightDelta({}), config, details)
    except BaseException:
        if codebook is not None:
            codebook.detach()
        if was_attached:
            before.attach(lm)
        raise
    return replace(result, memory=codebook, codebook=codebook)


def _empty(lm: LanguageModel, config: GraceConfig) -> Codebook:
    model = parts(lm.model)
    layer = layer_at(model, 0.7) if config.layer is None else config.layer
    if not 0 <= layer < len(model.blocks):
        raise RequestError(f"The model has layers 0 to {len(model.blocks) - 1}.")
    nothing = torch.zeros(0, model.embed.weight.shape[1])
    return Codebook(state_digest(lm.model), layer, nothing, nothing)


def _made(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    config: GraceConfig,
    before: Codebook,
    report: Progress,
) -> tuple[Codebook, dict[str, Any]]:
    """Return the codebook with all requests added, not attached, and what is told of it."""
    rows = target_rows(lm, requests, config.lead_ins)
    keys, values, losses = [], [], []
    for start in range(0, len(rows), ROWS_PER_PASS):
        report("values", start, len(rows))
        values_of = _Values(lm, rows[start : start + ROWS_PER_PASS], config, before.layer)
        keys.append(unit(values_of.keys))
        found, loss = values_of.run()
        values.append(found)
        losses += loss
    report("values", len(rows), len(rows))
    every = torch.cat(keys)
    reach = _reach(lm, requests, every, config.margin, before.layer)
    entries = [
        Entry(
            f"edit-{before.made + row.owner + 1}",
            hashlib.sha256(requests[row.owner].target.encode()).hexdigest(),
            config.radius,
            limit,
            config.share,
            config.grow,
        )
        for row, limit in zip(rows, reach, strict=True)
    ]
    codebook = before.with_entries(entries, every, torch.cat(values))
    radii = codebook.radii()[-len(rows) :].tolist()
    told = []
    for number in range(len(requests)):
        mine = [index for index, row in enumerate(rows) if row.owner == number]
        told.append(
            {
                "edit": entries[mine[0]].edit,
                "keys": len(mine),
                "value_loss": max(losses[index] for index in mine),
                "smallest_radius": min(radii[index] for index in mine),
            }
        )
    return codebook, {"entries": len(codebook.entries), "requests": told}


def _reach(
    lm: LanguageModel, requests: Sequence[EditRequest], keys: Tensor, margin: float, layer: int
) -> list[float]:
    """Return how far each ball may reach: part of the way to the nearest neighbour's key."""
    prompts = list(dict.fromkeys(p for request in requests for p in request.neighbours))
    reach = torch.full((len(keys),), FARTHEST, device=keys.device)
    for start in range(0, len(prompts), ROWS_PER_PASS):
        rows = [encode(lm, prompt) for prompt in prompts[start : start + ROWS_PER_PASS]]
        states = keep_blocks(lm, rows, layer)[0].states
        last = torch.tensor([len(row) - 1 for row in rows], device=states.device)
        held = unit(states[torch.arange(len(rows), device=states.device), last])
        reach = torch.minimum(reach, margin * distances(keys, held).min(dim=1).values)
    return reach.tolist()


class _Values:
    """Adam on the values of some rows at once; each has its own state and its own stop."""

    def __init__(
        self, lm: LanguageModel, rows: Sequence[Row], config: GraceConfig, layer: int
    ) -> None:
        self.config = config
        block = parts(lm.model).blocks[layer]
        ids = [row.ids[:-1] for row in rows]
        self.blocks: KeptBlocks
        self.blocks, _, ((entering, _),) = keep_blocks(lm, ids, layer + 1, [block])
        self.asked: Asked = asked(lm, rows)
        device = self.blocks.states.device
        self.place = (
            torch.arange(len(rows), device=device),
            torch.tensor([row.start - 1 for row in rows], device=device),
        )
        self.keys = entering[self.place]

    def run(self) -> tuple[Tensor, list[float]]:
        """Return the values (n, d) in float32 and the mean loss per token of each row."""
        start = self.blocks.states[self.place].float()
        # Adam's step does not know the scale of its weights, so they are in units of the output.
        size = start.square().mean(dim=1, keepdim=True).sqrt()
        moved, descent = torch.zeros_like(start), RowAdam(start, self.config.learning_rate)
        losses = torch.full((len(start),), float("inf"), device=start.device)
        going = torch.arange(len(start), device=start.device)
        for step in range(self.config.steps + 1):
            now = moved[going].requires_grad_()
            found = self._losses(start[going] + now * size[going])
            losses[going] = found.detach()
            left = (found.detach() >= self.config.stop_loss).nonzero().flatten()
            if step == self.config.steps or not len(left):
                break
            (slope,) = torch.autograd.grad(found.sum(), now)
            going, count = going[left], len(found)
            moved[going] -= descent.step(slope[left], going, step + 1)
            if len(left) < count:
                self.blocks = self.blocks.select(left)
                self.asked, _ = self.asked.select(left, count)
                self.place = (self.place[0][: len(left)], self.place[1][left])
        return start + moved * size, losses.tolist()

    def _losses(self, values: Tensor) -> Tensor:
        """Return the loss of each row left with these values in place of what left the block."""
        states = self.blocks.states.index_put(self.place, values.to(self.blocks.states))
        logits = self.blocks.logits(self.asked.rows, self.asked.columns, states)
        return row_losses(logits, self.asked, len(values)).to(values.device)
