"""Training and evaluation mode: what is measured must not depend on the mode a model is in."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from language_models.checkpoint import LanguageModel


@contextmanager
def evaluating(lm: LanguageModel) -> Iterator[None]:
    """Turn dropout off, and gradient checkpointing, which keeps no keys and values; put back."""
    before = [(module, module.training) for module in lm.model.modules()]
    lm.model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
