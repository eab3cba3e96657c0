"""The value: δ, added to the MLP output at the edited token so that the target follows.

Loss as in ROME, eq. 4: mean over contexts of the target's mean loss per token, plus the
divergence of what "{subject} is a" predicts from what it predicted before, plus the norm of δ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from language_models.architecture import parts
from language_models.generation import pad_right
from language_models.moments import hooked

if TYPE_CHECKING:
    from editing.contexts import Contexts
    from editing.rome import RomeConfig
    from language_models.checkpoint import LanguageModel
    from language_models.tracing import Site


@dataclass(frozen=True)
class Value:
    """δ as float32 (d_model) and how it was reached."""

    delta: torch.Tensor
    details: dict[str, Any]


@dataclass(frozen=True)
class _Batch:
    """All rows padded, the essence prompt last; where δ goes and which logits count."""

    ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    scored: torch.Tensor  # (m, 2): row and position of each logit
    wanted: torch.Tensor  # (m): the token that must follow there
    share: torch.Tensor  # (m): weight of each in the mean over contexts of means over tokens


def optimise_value(lm: LanguageModel, found: Contexts, config: RomeConfig, site: Site) -> Value:
    """Optimise δ by Adam, its norm clamped after each step; the weights stay as they are."""
    module = parts(lm.model).mlp_out(site.layer)
    batch = _batch(lm, found)
    outputs: list[torch.Tensor] = []
    rows = torch.arange(len(batch.ids), device=lm.device)
    delta = torch.zeros(module.out_features, device=lm.device, requires_grad=True)

    def add(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        outputs[:] = [output]
        changed = output.clone()
        changed[rows, batch.positions] += delta.to(output.dtype)
        return changed

    needed = [(weight, weight.requires_grad) for weight in lm.model.parameters()]
    for weight, _ in needed:
        weight.requires_grad_(requires_grad=False)
    try:
        with hooked(lambda: module.register_forward_hook(add)):
            start = _log_chances(lm, batch)[1].detach()
            present = outputs[0][rows[:-1], batch.positions[:-1]].detach().float()
            norm = present.mean(dim=0).norm()
            loss, steps = _descend(lm, batch, delta, start, float(norm), config)
    finally:
        for weight, before in needed:
            weight.requires_grad_(requires_grad=before)
    details = {
        "contexts": len(found.rows),
        "loss": loss,
        "steps": steps,
        "value_norm": float(delta.detach().norm()) / float(norm),
    }
    return Value(delta.detach(), details)


@torch.inference_mode()
def target_first(lm: LanguageModel, found: Contexts) -> list[bool]:
    """Return per context whether every target token is the most likely one, by the weights now."""
    batch = _batch(lm, found)
    logits = _logits(lm, batch)
    right = logits.argmax(dim=-1) == batch.wanted
    row_of = batch.scored[:, 0]
    return [bool(right[row_of == row].all()) for row in range(len(found.rows))]


def _descend(
    lm: LanguageModel,
    batch: _Batch,
    delta: torch.Tensor,
    start: torch.Tensor,
    norm: float,
    config: RomeConfig,
) -> tuple[float, int]:
    """Return the target's last loss and the number of steps; δ is changed in place."""
    optimiser = torch.optim.Adam([delta], lr=config.learning_rate)
    for step in range(config.steps + 1):
        target, essence = _log_chances(lm, batch)
        loss = -(target * batch.share).sum()
        if loss < config.stop_loss or step == config.steps:
            break
        drift = F.kl_div(start, essence, log_target=True, reduction="sum")
        total = loss + config.kl_weight * drift + config.norm_weight * delta.norm() / norm**2
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        with torch.no_grad():
            delta *= (config.clamp * norm / delta.norm().clamp(min=1e-12)).clamp(max=1.0)
    return float(loss.detach()), step


def _batch(lm: LanguageModel, found: Contexts) -> _Batch:
    # The last target token is not fed in, only asked for.
    rows = [row[:-1] for row in found.rows]
    ids, mask = pad_right(lm, [*rows, found.essence[0]])
    scored, wanted, share = [], [], []
    for number, (row, start) in enumerate(zip(found.rows, found.starts, strict=True)):
        for at in range(start, len(row)):
            scored.append((number, at - 1))
            wanted.append(row[at])
            share.append(1 / (len(row) - start) / len(rows))
    positions = [*found.positions, found.essence[1]]
    return _Batch(
        ids,
        mask,
        torch.tensor(positions, device=lm.device),
        torch.tensor(scored, device=lm.device),
        torch.tensor(wanted, device=lm.device),
        torch.tensor(share, device=lm.device),
    )


def _log_chances(lm: LanguageModel, batch: _Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log p of each wanted token (m) and all log p after the essence prompt's token (v)."""
    log_chances = _logits(lm, batch, essence=True).float().log_softmax(dim=-1)
    picked = log_chances[:-1].gather(1, batch.wanted[:, None]).flatten()
    return picked, log_chances[-1]


def _logits(lm: LanguageModel, batch: _Batch, *, essence: bool = False) -> torch.Tensor:
    states = lm.model.model(
        input_ids=batch.ids, attention_mask=batch.mask, use_cache=False
    ).last_hidden_state
    chosen = states[batch.scored[:, 0], batch.scored[:, 1]]
    if essence:
        chosen = torch.cat([chosen, states[-1:, batch.positions[-1]]])
    logits: torch.Tensor = parts(lm.model).head(chosen)
    return logits
