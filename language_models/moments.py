"""Second moments of the MLP keys: C = E[k kᵀ] over the tokens of many texts (ROME, eq. 2)."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from language_models.architecture import parts
from language_models.errors import RequestError
from language_models.generation import encode, pad_right

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from language_models.checkpoint import LanguageModel


@dataclass(frozen=True)
class Moment:
    """C as float64 (d_ff, d_ff), the number of keys it is the mean of, and its SHA-256."""

    matrix: torch.Tensor
    count: int
    digest: str


@torch.inference_mode()
def second_moment(
    lm: LanguageModel, texts: Sequence[str], layer: int, *, batch_size: int = 64
) -> Moment:
    """Return C of the inputs of the MLP's second projection of `layer`, over all tokens."""
    if not texts:
        raise RequestError("Second moments need texts. Give some that the model writes well.")
    width = parts(lm.model).mlp_out(layer).in_features
    total = torch.zeros(width, width, dtype=torch.float64, device=lm.device)
    count = 0
    rows = sorted((encode(lm, text) for text in texts), key=lambda row: (len(row), row))
    for start in range(0, len(rows), batch_size):
        ids, mask = pad_right(lm, rows[start : start + batch_size])
        found = keys(lm, ids, mask, layer)[mask.bool()].double()
        total += found.T @ found
        count += len(found)
    matrix = (total / count).cpu()
    digest = hashlib.sha256(f"{count}".encode() + matrix.numpy().tobytes()).hexdigest()
    return Moment(matrix, count, digest)


def keys(lm: LanguageModel, ids: torch.Tensor, mask: torch.Tensor, layer: int) -> torch.Tensor:
    """Return the inputs (b, t, d_ff) of the MLP's second projection of `layer`."""
    seen: list[torch.Tensor] = []

    def look(_module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(inputs[0])

    module = parts(lm.model).mlp_out(layer)
    with hooked(lambda: module.register_forward_pre_hook(look)):
        lm.model.model(input_ids=ids, attention_mask=mask, use_cache=False)
    return seen[0]


@contextmanager
def hooked(*registrations: Callable[[], Any]) -> Iterator[None]:
    """Hold module hooks for a block; all are removed at its end, also after an error."""
    handles: list[Any] = []
    try:
        handles.extend(register() for register in registrations)
        yield
    finally:
        for handle in handles:
            handle.remove()
