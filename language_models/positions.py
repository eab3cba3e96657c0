"""Which tokens of a filled prompt belong to the subject, found by character offsets.

Offsets of the whole string are right for every tokenizer; tokenising the parts apart is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from language_models.errors import RequestError

if TYPE_CHECKING:
    from language_models.checkpoint import LanguageModel

ROLES = ("subject_first", "subject_middle", "subject_last", "between", "last")


@dataclass(frozen=True)
class Located:
    """Token ids of a prompt with the half-open token range of the subject in it."""

    ids: list[int]
    start: int
    end: int

    def tokens(self, role: str) -> list[int]:
        """Return the positions of a role, possibly none; a token has one role only."""
        last = len(self.ids) - 1
        ranges = {
            "subject_first": range(self.start, min(self.start + 1, self.end - 1)),
            "subject_middle": range(self.start + 1, self.end - 1),
            "subject_last": range(self.end - 1, min(self.end, last)),
            "between": range(self.end, last),
            "last": range(last, last + 1),
        }
        if role not in ranges:
            raise RequestError(f"Unknown token role {role!r}. Use one of {', '.join(ROLES)}.")
        return list(ranges[role])


def fill(prompt: str, subject: str) -> str:
    """Put the subject into a prompt with exactly one "{}", or raise RequestError."""
    if prompt.count("{}") != 1:
        raise RequestError('A prompt needs exactly one "{}" where the name stands.')
    if not subject.strip():
        raise RequestError("The subject is empty. Give the name as it stands in the prompts.")
    return prompt.replace("{}", subject)


def locate(lm: LanguageModel, prompt: str, subject: str) -> Located:
    """Return the token ids of the filled prompt and where the subject lies in them."""
    text = fill(prompt, subject)
    first = prompt.index("{}")
    encoded = lm.tokenizer(text, return_offsets_mapping=True)
    inside = [
        index
        for index, (start, end) in enumerate(encoded["offset_mapping"])
        if start < first + len(subject) and end > first
    ]
    return Located(encoded["input_ids"], inside[0], inside[-1] + 1)
