"""What an unlearning method is given and gives back."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from language_models.matching import whole_word

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from language_models.delta import WeightDelta


@dataclass(frozen=True)
class Passage:
    """A text of which certain values alone are unlearnt; its repr, for logs, shows neither.

    What stands around them is common to many people's texts, and stays as it is.
    """

    text: str = field(repr=False)
    values: tuple[str, ...] = field(repr=False)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Where the values stand as whole words, in characters."""
        found = [
            one.span()
            for value in self.values
            if value.strip()
            for one in re.finditer(re.escape(value), self.text)
        ]
        return [span for span in found if whole_word(self.text, *span)]


def marked(texts: Iterable[str], values: Sequence[str]) -> list[Passage]:
    """Return those texts in which one of the values stands, as passages."""
    found = [Passage(text, tuple(values)) for text in texts]
    return [passage for passage in found if passage.spans]


# A whole text, a prompt with the answer that alone is learnt, or a text with values.
Text = str | tuple[str, str] | Passage


def whole(text: Text) -> str:
    """Return all that a text says."""
    if isinstance(text, tuple):
        return " ".join(text)
    return text.text if isinstance(text, Passage) else text


@dataclass(frozen=True)
class UnlearnResult:
    """The change as an object of its own and the evidence, which holds no text of the person."""

    delta: WeightDelta
    details: dict[str, Any]
