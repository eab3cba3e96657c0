"""Texts learnt for a while: the weights, or an adapter beside them, are trained and taken back."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from language_models.adapters import acting, matrices, trainable
from language_models.architecture import parts
from language_models.delta import copy_weights, restore_weights
from language_models.errors import RequestError
from language_models.generation import encode, end_tokens, window_of
from language_models.modes import evaluating
from language_models.packing import states_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from language_models.checkpoint import LanguageModel

MOST_TOKENS = 256
RANK, SCALE = 16, 2.0
# Adapters learn at rates about this many times those of whole weights (Hu et al. 2022, table 11).
ADAPTER_RATE = 10


@contextmanager
def learnt(
    lm: LanguageModel,
    texts: Sequence[str],
    *,
    steps: int,
    learning_rate: float,
    batch: int,
    seed: int,
) -> Iterator[str]:
    """Let the model act as it would after `steps` steps on texts; say how it was trained.

    All weights are trained where they are in single precision and fit twice beside themselves;
    small steps vanish in 16 bits, so a LoRA adapter of rank 16 is trained there. Afterwards the
    weights are as before, bit for bit. Raises RequestError for settings that cannot be.
    """
    if steps < 1 or batch < 1 or learning_rate <= 0 or not texts:
        raise RequestError("Learning needs texts, and steps, batch and learning_rate above 0.")
    most = min(MOST_TOKENS, window_of(lm) or MOST_TOKENS)
    rows = [[*encode(lm, text), *end_tokens(lm)[:1]][:most] for text in texts]
    rows = [row for row in rows if len(row) > 1]
    if not rows:
        raise RequestError("Nothing can be learnt from texts of one token. Give longer ones.")
    whole = next(lm.model.parameters()).dtype in (torch.float32, torch.float64)
    with ExitStack() as stack:
        if whole:
            before = copy_weights(lm)
            stack.callback(restore_weights, lm, before)
            trained = list(lm.model.parameters())
            wanted = [weight.requires_grad for weight in trained]
            stack.callback(_require, trained, wanted)
            _require(trained, [True] * len(trained))
        else:
            places = matrices(lm)
            factors = trainable(places, RANK, torch.Generator().manual_seed(seed))
            stack.enter_context(acting(places, factors, SCALE))
            trained, learning_rate = list(factors.values()), learning_rate * ADAPTER_RATE
        _train(lm, rows, trained, steps, learning_rate, batch, seed)
        yield "all weights" if whole else f"a LoRA adapter of rank {RANK}"


def _require(weights: Sequence[Tensor], wanted: Sequence[bool]) -> None:
    for weight, want in zip(weights, wanted, strict=True):
        weight.requires_grad_(want)
        weight.grad = None


def _train(
    lm: LanguageModel,
    rows: Sequence[list[int]],
    trained: Sequence[Tensor],
    steps: int,
    learning_rate: float,
    batch: int,
    seed: int,
) -> None:
    adam = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.0)
    drawing = torch.Generator().manual_seed(seed)
    order: list[int] = []
    with torch.enable_grad(), evaluating(lm):
        for _ in range(steps):
            while len(order) < batch:
                order += torch.randperm(len(rows), generator=drawing).tolist()
            chosen, order = order[:batch], order[batch:]
            loss = _loss(lm, [rows[index] for index in chosen])
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            adam.step()


def _loss(lm: LanguageModel, rows: Sequence[list[int]]) -> Tensor:
    """Return the mean of -log p over all tokens of rows but the first of each."""
    states, begins = states_of(lm, rows)
    pairs = zip(begins, rows, strict=True)
    before = [begin + at for begin, row in pairs for at in range(len(row) - 1)]
    logits = parts(lm.model).logits(states[torch.tensor(before, device=states.device)])
    labels = [token for row in rows for token in row[1:]]
    return F.cross_entropy(logits.float(), torch.tensor(labels, device=logits.device))
