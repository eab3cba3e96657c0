"""Facts of the tiny models' sentences as a user's file holds them."""

from __future__ import annotations

from typing import Any

from editing.rome import RomeConfig
from tests.language_models.factories import SENTENCES

# One token each: a random model goes on at random after the first token of an answer, so these
# facts are asked for one token.
TARGETS = ("was", "born", "an", "as", "bor", "A", "T", "c")
NAMES = (
    "Malee Tanaka", "Anna Sato", "Somchai Saito", "Somchai Tanaka", "Anna Saito", "Malee Sato",
    "Tanaka Anna", "Sato Somchai",
)  # fmt: skip


def row(number: int = 0, **changes: Any) -> dict[str, Any]:
    """One entry of a file of facts."""
    made: dict[str, Any] = {
        "subject": NAMES[number],
        "prompt": "{} was born in",
        "target": TARGETS[number],
        "test": {"paraphrases": ["Where was {} born? A: In"]},
    }
    return made | changes


def tiny_rome(**changes: Any) -> RomeConfig:
    """Settings that reach a target on a random model, which needs a far larger push."""
    values: dict[str, Any] = {
        "role": "last", "layer": 1, "clamp": 300.0, "learning_rate": 0.5,
        "moment_texts": SENTENCES, "moment_weight": 0.01, "neighbour_weight": 1.0,
        "prefixes": 0, "steps": 30,
    }  # fmt: skip
    return RomeConfig(**{**values, **changes})
