"""The losses of approximate unlearning, as pure functions of what a model predicts.

Each returns one value a text, (b), and never a mean: the training loop divides by the texts or
tokens of the whole step, so that a step in several passes has the gradient of one in a single pass.
Only labelled tokens count; padding and prompts are gone before any loss is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100


@dataclass(frozen=True)
class Predictions:
    """What a model predicts at the n labelled tokens of b texts.

    logits (n, v) in float32 or wider. labels (n): the true tokens. text (n): which text each
    belongs to, in ascending order. texts: b.
    """

    logits: Tensor
    labels: Tensor
    text: Tensor
    texts: int

    @classmethod
    def of(cls, logits: Tensor, labels: Tensor) -> Predictions:
        """Take logits (b, t, v) and labels (b, t), IGNORED where a token is not scored.

        The logits of a token predict the label of the next one.
        """
        row, column = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
        return cls(wide(logits[row, column]), labels[row, column + 1], row, len(labels))

    @property
    def log_chances(self) -> Tensor:
        """Log p of every token of the vocabulary, (n, v)."""
        return self.logits.log_softmax(dim=-1)

    @property
    def token_losses(self) -> Tensor:
        """-log p of each true token in nats, (n)."""
        return F.cross_entropy(self.logits, self.labels, reduction="none")

    @property
    def counts(self) -> Tensor:
        """Labelled tokens per text, (b)."""
        return self.per_text(torch.ones_like(self.logits[:, 0]))

    @property
    def losses(self) -> Tensor:
        """-log p of each text, (b): the sum over its labelled tokens."""
        return self.per_text(self.token_losses)

    def per_text(self, values: Tensor) -> Tensor:
        """Sum values (n) by text, (b)."""
        return values.new_zeros(self.texts).index_add(0, self.text, values)


def wide(logits: Tensor) -> Tensor:
    """Return logits in float32, or float64 where they are; 16 bits lose small log p."""
    return logits if logits.dtype == torch.float64 else logits.float()


def ascent(found: Predictions, likely: float = 0.0, unlikely: float = 0.0) -> Tensor:
    """Gradient ascent: Σ p^likely (1 - p)^unlikely log p per text, (b), the weights held fixed.

    Both 0 is plain ascent. likely alone is WGA (Wang et al. 2025), both SatImp (Yang et al. 2025).
    """
    losses = found.token_losses
    chance = losses.detach().neg().exp()
    return -found.per_text(chance**likely * (1 - chance) ** unlikely * losses)


def negative_preference(losses: Tensor, reference: Tensor, beta: float) -> Tensor:
    """NPO (Zhang et al. 2024, equation 3): -(2/β) log σ(β (losses - reference)), (b).

    losses and reference: -log p per text, now and before. At losses = reference the gradient is
    that of ascent on the sum, whatever β.
    """
    return -(2 / beta) * F.logsigmoid(beta * (losses - reference))


def simple_negative_preference(
    losses: Tensor, counts: Tensor, beta: float, margin: float
) -> Tensor:
    """SimNPO (Fan et al. 2024, equation 4): -(2/β) log σ(β (losses / counts - margin)), (b)."""
    return -(2 / beta) * F.logsigmoid(beta * (losses / counts - margin))


def direct_preference(
    wanted: Tensor,
    wanted_reference: Tensor,
    unwanted: Tensor,
    unwanted_reference: Tensor,
    beta: float,
) -> Tensor:
    """DPO (Rafailov et al. 2023) times 2/β, as unlearning scales it: -(2/β) log σ(β gap), (b).

    All four are -log p per text; gap is how much more likely the wanted text has become than the
    unwanted one.
    """
    gap = (wanted_reference - wanted) - (unwanted_reference - unwanted)
    return -(2 / beta) * F.logsigmoid(beta * gap)


def divergence(reference: Tensor, found: Predictions) -> Tensor:
    """KL(reference ‖ model) in nats, summed over the labelled tokens of each text, (b).

    reference (n, v): log p of the model before.
    """
    return found.per_text(
        F.kl_div(found.log_chances, reference, reduction="none", log_target=True).sum(dim=-1)
    )


def self_distillation(reference: Tensor, found: Predictions, strength: float) -> Tensor:
    """UNDIAL (Dong et al. 2025): cross entropy to softmax(reference logits - strength · true), (b).

    reference (n, v): logits of the model before. With growing strength the true token leaves the
    target, and the others keep their proportions.
    """
    target = wide(reference).scatter_add(
        1, found.labels[:, None], torch.full_like(found.logits[:, :1], -strength)
    )
    return found.per_text(-(target.softmax(dim=-1) * found.log_chances).sum(dim=-1))


def counterfactual(found: Predictions, skipped: int = 0) -> Tensor:
    """CE-U (Yang 2025): cross entropy to the model's own chances without the true token, (b).

    The target is held fixed. skipped: first labelled tokens of each text that are left out. The
    gradient by the logits is p_true at the true token and sums to zero: it is bounded.
    """
    own = found.logits.detach().scatter(1, found.labels[:, None], float("-inf"))
    losses = -(own.softmax(dim=-1) * found.log_chances).sum(dim=-1)
    return found.per_text(losses * (_place(found) >= skipped))


def misdirection(states: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """RMU (Li et al. 2024): mean over a text's own tokens of the mean squared distance, (b).

    states (b, t, d), target of that shape or (d), mask (b, t) with 1 where a token counts.
    """
    distance = (wide(states) - wide(target)).square().mean(dim=-1)
    return (distance * mask).sum(dim=1) / mask.sum(dim=1)


def _place(found: Predictions) -> Tensor:
    """Return how many labelled tokens of its text stand before each, (n)."""
    first = torch.searchsorted(found.text, found.text)
    return torch.arange(len(found.text), device=found.text.device) - first
