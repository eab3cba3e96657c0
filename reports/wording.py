"""Words that no report or letter may use: no test can show what they say of a model's weights."""

from __future__ import annotations

import re
import unicodedata

from reports.evidence import EvidenceError, strings

BANNED = ("erased", "forgotten", "guaranteed", "permanently")

# The name of the right itself (Regulation (EU) 2016/679, title of Article 17) is no promise.
NAME_OF_THE_RIGHT = re.compile(r"right to be forgotten", re.IGNORECASE)
PATTERN = re.compile(rf"(?<![a-z])({'|'.join(BANNED)})(?![a-z])")


def banned_words(text: str) -> list[str]:
    """Return the banned words in text, in order, also when hidden by case or invisible marks."""
    plain = unicodedata.normalize("NFKC", text)
    visible = "".join(char for char in plain if unicodedata.category(char) != "Cf")
    return PATTERN.findall(NAME_OF_THE_RIGHT.sub(" ", " ".join(visible.split())).casefold())


def refuse_banned_words(value: object, path: str, names: frozenset[str]) -> None:
    """Raise EvidenceError for the first string of value with a banned word.

    names are the last parts of paths that hold proper names, which promise nothing.
    """
    for place, text in strings(value, path):
        found = banned_words(text)
        if found and place.rpartition(".")[2] not in names:
            message = f'{place} uses "{found[0]}"; give the measured degree and its bound instead'
            raise EvidenceError(message)
