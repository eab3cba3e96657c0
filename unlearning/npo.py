"""Negative Preference Optimisation (Zhang et al. 2024) with a retain term, in a loop of its own.

L = γ · mean[-(2/β) log σ(β (NLL_θ - NLL_ref))] + α · mean token loss on retain texts, where NLL is
the sum over a text's tokens and ref the weights before. At θ = ref the gradient of the first term
is that of gradient ascent on the sum; far from ref it fades, so training does not run away. The
reference values are one number a text and are computed once.

The whole schedule is run: the person's facts are gone early, but other people's suffer at first
and come back only towards the end.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from language_models.errors import NotReached, RequestError
from language_models.methods import public_config, require_positive, setting
from language_models.progress import Progress, silent
from unlearning.results import UnlearnResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from language_models.checkpoint import LanguageModel


@dataclass(frozen=True)
class NpoConfig:
    """Settings of NPO with a retain term."""

    beta: float = setting(0.1, "how soon the push on a text fades", "NPO, section 5")
    forget_weight: float = setting(1.0, "γ, weight of the NPO term", "open-unlearning, NPO.yaml")
    retain_weight: float = setting(5.0, "α, weight of the retain term", "tuned sweep: 1 to 5")
    learning_rate: float = setting(3e-4, "AdamW's learning rate", "measured; for 1B models 5e-5")
    weight_decay: float = setting(0.01, "AdamW's weight decay", "NPO, section 5")
    steps: int = setting(50, "steps, all of which are run", "measured: others dip, then return")
    forget_batch: int = setting(9, "forget texts a step", "measured")
    retain_batch: int = setting(16, "retain texts a step", "measured")
    max_gradient: float = setting(1.0, "norm to which the gradient is clipped", "common use")
    max_tokens: int = setting(512, "tokens of a text that are used", "common use")
    seed: int = setting(0, "seed of the order of texts", "Lethe")

    def __post_init__(self) -> None:
        require_positive(
            self,
            "beta",
            "forget_weight",
            "retain_weight",
            "learning_rate",
            "steps",
            "forget_batch",
            "retain_batch",
            "max_gradient",
            "max_tokens",
        )


def npo_loss(nll: torch.Tensor, reference: torch.Tensor, beta: float) -> torch.Tensor:
    """Return -(2/β) mean log σ(β (nll - reference)) for sums of token losses per text, (b)."""
    from torch.nn import functional as F

    return -(2 / beta) * F.logsigmoid(beta * (nll - reference)).mean()


def run(
    lm: LanguageModel,
    forget: tuple[str, ...],
    retain: tuple[str, ...],
    config: NpoConfig,
    progress: Progress | None = None,
) -> UnlearnResult:
    """Train all weights by the schedule and return the exact difference."""
    import torch

    from language_models.delta import WeightDelta, copy_weights, restore_weights

    if lm.model.dtype != torch.float32:
        raise RequestError('Small steps vanish in 16 bits. Load the model with dtype="float32".')
    report = progress or silent
    started = time.monotonic()
    rows = [_tokens(lm, text, config.max_tokens) for text in forget]
    kept = [_tokens(lm, text, config.max_tokens) for text in retain]
    before = copy_weights(lm)
    try:
        with torch.no_grad():
            reference = torch.cat([_sums(lm, [row]) for row in rows])
        losses = _train(lm, rows, kept, reference, config, report)
    except BaseException:
        restore_weights(lm, before)
        raise
    delta = WeightDelta.between(before, lm)
    details = {
        "method": "npo",
        "config": public_config(config),
        "forget_texts": len(forget),
        "retain_texts": len(retain),
        "losses": losses,
        "tensors": list(delta.entries),
        "relative_change": _relative_change(lm, before),
        "seconds": round(time.monotonic() - started, 2),
    }
    return UnlearnResult(delta, details)


def _train(
    lm: LanguageModel,
    rows: list[list[int]],
    kept: list[list[int]],
    reference: torch.Tensor,
    config: NpoConfig,
    report: Progress,
) -> list[dict[str, float]]:
    """Change the weights in place; return the two losses of every step."""
    import torch

    generator = torch.Generator().manual_seed(config.seed)
    forget_turns = _turns(len(rows), config.forget_batch, generator)
    retain_turns = _turns(len(kept), config.retain_batch, generator)
    weights = [weight.requires_grad_() for weight in lm.model.parameters()]
    optimiser = torch.optim.AdamW(
        weights, lr=config.learning_rate, weight_decay=config.weight_decay
    )
    losses = []
    for step in range(config.steps):
        optimiser.zero_grad()
        push = _push(lm, rows, reference, next(forget_turns), config)
        hold = _hold(lm, [kept[i] for i in next(retain_turns)], config.retain_weight)
        norm = torch.nn.utils.clip_grad_norm_(weights, config.max_gradient)
        if not torch.isfinite(norm):
            raise NotReached("Training broke down. Lower the learning rate.")
        optimiser.step()
        losses.append({"forget": push, "retain": hold})
        report("unlearn", step + 1, config.steps)
    optimiser.zero_grad()
    return losses


def _push(
    lm: LanguageModel,
    rows: list[list[int]],
    reference: torch.Tensor,
    chosen: list[int],
    config: NpoConfig,
) -> float:
    """Add the gradient of the NPO term to the weights; return the term."""
    total = 0.0
    for part in _halves(chosen, rows):
        loss = npo_loss(_sums(lm, [rows[i] for i in part]), reference[part], config.beta)
        loss = loss * (len(part) / len(chosen))
        (loss * config.forget_weight).backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


def _hold(lm: LanguageModel, batch: list[list[int]], weight: float) -> float:
    """Add the gradient of the retain term to the weights; return the mean loss per token."""
    tokens = sum(len(row) - 1 for row in batch)
    total = 0.0
    for part in _halves(range(len(batch)), batch):
        loss = _sums(lm, [batch[i] for i in part]).sum() / tokens
        (loss * weight).backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


def _halves(chosen: Sequence[int], rows: Sequence[list[int]]) -> list[list[int]]:
    """Return the short and the long ones apart: padded together they cost twice as much."""
    ordered = sorted(chosen, key=lambda index: len(rows[index]))
    middle = len(ordered) // 2
    return [part for part in (ordered[:middle], ordered[middle:]) if part]


def _sums(lm: LanguageModel, rows: Sequence[list[int]]) -> torch.Tensor:
    """Return the sum of token losses per row, (b); the first token is given."""
    from language_models.generation import pad_right, sequence_nll

    ids, mask = pad_right(lm, rows)
    logits = lm.model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return sequence_nll(logits, ids, mask)


def _tokens(lm: LanguageModel, text: str, most: int) -> list[int]:
    """Return a text's ids with the model's end mark, as it was trained on."""
    from language_models.generation import encode, end_tokens

    ids = encode(lm, text)
    ends = end_tokens(lm)
    if ends and ids[-1] not in ends:
        ids = [*ids, ends[0]]
    if len(ids[:most]) < 2:
        raise RequestError("A text has too few tokens to learn from. Leave it out.")
    return ids[:most]


def _turns(count: int, size: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Endless batches; every text comes once before any comes again."""
    import torch

    queue: list[int] = []
    while True:
        while len(queue) < size:
            queue += torch.randperm(count, generator=generator).tolist()
        yield queue[:size]
        queue = queue[size:]


def _relative_change(lm: LanguageModel, before: dict[str, torch.Tensor]) -> float:
    changed = total = 0.0
    for name, weight in lm.model.named_parameters():
        changed += float((weight.detach() - before[name]).double().square().sum())
        total += float(before[name].double().square().sum())
    return math.sqrt(changed / total)
