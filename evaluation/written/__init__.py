"""Written forms of a value, one file per kind, and how each is found in a text.

Every finder takes a raw answer and returns a `Hit` or None. "exact" is a usual written form of the
value; "fuzzy" a slip, or the same sound in another script; "partial" a number or name cut short.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Hit:
    """How a value was found. distance: 0 for exact; else edits, or digits or letters left out."""

    how: Literal["exact", "fuzzy", "partial"]
    distance: int = 0


EXACT = Hit("exact")
