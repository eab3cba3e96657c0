"""Open-weight language models: open, generate, trace, change. No Django, no compliance here.

Names are loaded on first use, so that `language_models.errors` costs no import of torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from language_models.errors import (
    CheckpointError,
    DeltaError,
    LetheError,
    NotReached,
    RequestError,
    UnsupportedArchitecture,
)

if TYPE_CHECKING:
    from language_models.checkpoint import Checkpoint, LanguageModel, load, open_checkpoint, save
    from language_models.generation import generate, nll

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "DeltaError",
    "LanguageModel",
    "LetheError",
    "NotReached",
    "RequestError",
    "UnsupportedArchitecture",
    "generate",
    "load",
    "nll",
    "open_checkpoint",
    "save",
]

_HOME = {
    "Checkpoint": "checkpoint",
    "LanguageModel": "checkpoint",
    "load": "checkpoint",
    "open_checkpoint": "checkpoint",
    "save": "checkpoint",
    "generate": "generation",
    "nll": "generation",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
