"""The gradient of the targets' loss as factors per token: ∂L/∂W = Σ_t δ_t x_tᵀ.

x_t is the input of a matrix at token t, δ_t the gradient of the loss with respect to its output
there (MEND, section 3.1). No gradient of a whole matrix is ever made, and no weight is changed: a
trial change is added to a matrix's output by a hook.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from language_models.architecture import Projection, parts
from language_models.checkpoint import LanguageModel
from language_models.moments import hooked
from language_models.padding import pad_right
from language_models.replay import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

ALL_TOKENS, TARGET_TOKENS = "all", "target"
WIDE = (torch.float32, torch.float64)


@dataclass(frozen=True)
class Scored:
    """A row of token ids of which those from `start` on are scored; share: weight of the row."""

    ids: tuple[int, ...]
    start: int
    share: float = 1.0


@dataclass(frozen=True)
class Factors:
    """Tokens of one matrix: keys x (n, d_in), gradients δ (n, d_out), shares (n)."""

    keys: Tensor
    gradients: Tensor
    shares: Tensor


def in_float32(lm: LanguageModel) -> LanguageModel:
    """Return the model itself, or a copy in float32 of one in a shorter number format.

    Gradients of a value are small; in float16 most would be zero.
    """
    if all(weight.dtype in WIDE for weight in lm.model.parameters()):
        return lm
    return LanguageModel(copy.deepcopy(lm.model).float(), lm.tokenizer, lm.checkpoint)


def gradient_factors(
    lm: LanguageModel,
    projections: Sequence[Projection],
    rows: Sequence[Scored],
    *,
    tokens: str = ALL_TOKENS,
    rows_per_pass: int = 32,
) -> dict[str, Factors]:
    """Return per matrix the factors of Σ over rows of the mean loss per scored token.

    A row's factors do not depend on the other rows. tokens: "all" with a gradient, or only those
    from which a "target" token is predicted. Tokens with a zero key or gradient are left out.
    """
    found: dict[str, list[Factors]] = {one.name: [] for one in projections}
    with frozen(lm):
        for start in range(0, len(rows), rows_per_pass):
            batch = rows[start : start + rows_per_pass]
            for name, factors in _pass(lm, projections, batch, tokens).items():
                found[name].append(factors)
    return {
        name: Factors(
            torch.cat([one.keys for one in several]),
            torch.cat([one.gradients for one in several]),
            torch.cat([one.shares for one in several]),
        )
        for name, several in found.items()
    }


def _pass(
    lm: LanguageModel, projections: Sequence[Projection], rows: Sequence[Scored], tokens: str
) -> dict[str, Factors]:
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def look(_module: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            inputs[name] = args[0].detach()
            # Weights need no gradient, so the graph begins at the lowest of these outputs.
            outputs[name] = output if output.requires_grad else output.detach().requires_grad_()
            return outputs[name]

        return look

    with hooked(
        *(lambda one=one: one.module.register_forward_hook(keep(one.name)) for one in projections)
    ):
        losses, _ = target_losses(lm, rows)
    found = torch.autograd.grad(losses.sum(), [outputs[one.name] for one in projections])
    counted = _counted(rows, tokens, outputs[projections[0].name].shape[1]).to(lm.device)
    shares = torch.tensor([row.share for row in rows])
    result = {}
    for projection, gradient in zip(projections, found, strict=True):
        keys = inputs[projection.name]
        kept = counted.to(keys.device) & (keys != 0).any(dim=-1) & (gradient != 0).any(dim=-1)
        each = shares.to(keys)[:, None].expand(kept.shape)
        chosen = (keys[kept], gradient[kept], each[kept])
        result[projection.name] = Factors(*(one.to(lm.device) for one in chosen))
    return result


def target_losses(lm: LanguageModel, rows: Sequence[Scored]) -> tuple[Tensor, Tensor]:
    """Return per row the mean loss of its scored tokens, and whether each comes first: (n), (n)."""
    logits, owner, wanted = _scored_logits(lm, rows)
    counts = torch.tensor([len(row.ids) - row.start for row in rows], device=logits.device)
    losses = F.cross_entropy(logits, wanted, reduction="none") / counts[owner]
    none = torch.zeros(len(rows), dtype=logits.dtype, device=logits.device)
    wrong = (logits.argmax(dim=-1) != wanted).to(logits.dtype)
    return none.index_add(0, owner, losses), none.index_add(0, owner, wrong) == 0


def log_chances(lm: LanguageModel, rows: Sequence[Scored]) -> Tensor:
    """Return log p (m, v) of what follows each token from the one before `start` on, row by row."""
    open_ended = [Scored((*row.ids, 0), row.start) for row in rows]
    return _scored_logits(lm, open_ended)[0].log_softmax(dim=-1)


@contextmanager
def tried(changes: Mapping[str, tuple[Projection, Tensor]]) -> Iterator[None]:
    """Let matrices act as W + Δ for a block; Δ (d_out, d_in) in float32, which gets gradients."""

    def add(change: Tensor) -> Any:
        def hook(_module: Any, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            return output + F.linear(args[0].to(change), change).to(output)

        return hook

    with hooked(
        *(
            lambda one=one, change=change: one.module.register_forward_hook(add(change))
            for one, change in changes.values()
        )
    ):
        yield


def _scored_logits(lm: LanguageModel, rows: Sequence[Scored]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logits (m, v) of all scored tokens, the row (m) and the token (m) of each."""
    model = parts(lm.model)
    # The last token is not fed in, only asked for.
    ids, mask = pad_right(lm, [list(row.ids[:-1]) for row in rows])
    states = model.backbone(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    at = [(n, place) for n, row in enumerate(rows) for place in range(row.start, len(row.ids))]
    owner = torch.tensor([n for n, _ in at], device=states.device)
    columns = torch.tensor([place - 1 for _, place in at], device=states.device)
    logits = model.logits(states[owner, columns])
    wanted = torch.tensor([rows[n].ids[place] for n, place in at], device=logits.device)
    return logits, owner.to(logits.device), wanted


def _counted(rows: Sequence[Scored], tokens: str, width: int) -> Tensor:
    """Return which tokens (b, t) count: all that are no padding, or those that predict a target."""
    places = torch.arange(width)
    first = torch.tensor([0 if tokens == ALL_TOKENS else row.start - 1 for row in rows])
    end = torch.tensor([len(row.ids) - 1 for row in rows])
    return (places >= first[:, None]) & (places < end[:, None])
