"""What attention of our own shares: how a model is brought to use it, and its plain form."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from language_models.checkpoint import LanguageModel


def exchangeable(lm: LanguageModel) -> bool:
    """Whether a model's attention can be exchanged: on the processor, where it was measured.

    GPT-J has no exchangeable attention. Gradient checkpointing computes blocks a second time, when
    the texts are no longer known.
    """
    model = lm.model
    return (
        lm.device.type == "cpu"
        and bool(getattr(model, "_supports_attention_backend", False))
        and model.config._attn_implementation == "eager"
        and not model.is_activation_checkpointing
    )


@contextmanager
def attending(lm: LanguageModel, name: str) -> Iterator[None]:
    """Let a model whose attention is exchangeable use the one registered under `name`."""
    config = lm.model.config
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = "eager"


def plain(module: nn.Module) -> Callable[..., tuple[Tensor, Any]]:
    """Return the model's own plain attention, with its caps and sinks."""
    found: Callable[..., tuple[Tensor, Any]] = sys.modules[
        type(module).__module__
    ].eager_attention_forward
    return found


def added(distance: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
    """Return what is added to attention, in the shape of `distance`, how far a place lies before
    the one that asks: nothing later is seen, and nothing outside a sliding window.
    """
    hidden = distance < 0
    if window is not None:
        hidden = hidden | (distance >= window)
    return torch.zeros(distance.shape, dtype=dtype).masked_fill(hidden, torch.finfo(dtype).min)
