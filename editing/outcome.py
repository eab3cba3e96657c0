"""What an edit achieved, measured on the changed weights: never a silent no-op.

Every method ends here. Per request: the target's loss and in which share of its wordings every
target token is the most likely one. Per tensor: how much of it changed, and what rounding to
the model's own number format took from the planned change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from editing.requests import EditResult
from language_models.architecture import parts
from language_models.errors import NotReached
from language_models.generation import pad_right
from language_models.methods import public_config
from language_models.positions import fill, with_target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from editing.requests import EditConfig, EditRequest, Memory
    from language_models.checkpoint import LanguageModel
    from language_models.delta import WeightDelta

ROWS_PER_PASS = 128


def conclude(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    delta: WeightDelta,
    config: EditConfig,
    details: Mapping[str, Any],
    memory: Memory | None = None,
) -> EditResult:
    """Measure the change that `delta` has made to `lm` and return the result.

    details: what the method itself tells; under "requests" one mapping per request. With
    config.unreached "raise", a request that is not reached brings the weights back and raises
    NotReached; with "mark" it stays, with reached = False in its row.
    """
    own = details.get("requests", [{} for _ in requests])
    rows = [
        {**told, **found, "reached": found["target_first"] >= config.min_wordings}
        for told, found in zip(own, achieved(lm, requests), strict=True)
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


@torch.inference_mode()
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
    losses, first = _scores(lm, rows, starts)
    found = []
    for number in range(len(requests)):
        mine = [index for index, of in enumerate(owner) if of == number]
        found.append(
            {
                "loss": sum(losses[index] for index in mine) / len(mine),
                "target_first": sum(first[index] for index in mine) / len(mine),
            }
        )
    return found


def _scores(
    lm: LanguageModel, rows: Sequence[list[int]], starts: Sequence[int]
) -> tuple[list[float], list[bool]]:
    """Return per row the target's mean loss per token and whether it comes first throughout."""
    losses, first = [0.0] * len(rows), [False] * len(rows)
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    model = parts(lm.model)
    for begin in range(0, len(order), ROWS_PER_PASS):
        batch = order[begin : begin + ROWS_PER_PASS]
        ids, mask = pad_right(lm, [rows[index][:-1] for index in batch])
        states = model.backbone(input_ids=ids, attention_mask=mask, use_cache=False)
        for place, index in enumerate(batch):
            wanted = torch.tensor(rows[index][starts[index] :], device=lm.device)
            chosen = states.last_hidden_state[place, starts[index] - 1 : len(rows[index]) - 1]
            chances = model.logits(chosen).float().log_softmax(dim=-1)
            losses[index] = -float(chances.gather(1, wanted.to(chances.device)[:, None]).mean())
            first[index] = bool((chances.argmax(dim=-1) == wanted.to(chances.device)).all())
    return losses, first


def _unreached(missed: Sequence[Mapping[str, Any]], total: int, least: float) -> str:
    worst = min(row["target_first"] for row in missed)
    return (
        f"{len(missed)} of {total} edits were not reached: the target comes first in {worst:.0%}"
        f" of the wordings at worst, not in {least:.0%}. The weights are as before. Look at the"
        " trace, allow more steps or a larger change, or choose another method."
    )
