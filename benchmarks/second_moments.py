"""The second moments that both sides of a comparison are given: not a part of what is timed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from safetensors.torch import save_file

from benchmarks.summary import MODEL
from demo.corpus import records
from language_models import load
from language_models.architecture import parts
from language_models.moments import sample_texts, second_moments

if TYPE_CHECKING:
    from pathlib import Path


def write_statistics(path: Path) -> Path:
    """Write C of every layer of the demo model over its training texts; return the path."""
    if not path.exists():
        lm = load(MODEL)
        texts = sample_texts([record["text"] for record in records()], seed=0)
        layers = range(len(parts(lm.model).blocks))
        moments = second_moments(lm, texts, list(layers))
        save_file({f"layer{layer}.C": found.matrix for layer, found in moments.items()}, path)
    return path
