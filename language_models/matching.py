"""Whether a text holds a value: one rule for probes of models and for searches of records.

A value counts when it occurs after Unicode NFKC, case folding and joining of white space, as a
whole word. Scripts written without spaces (Thai, Lao, Japanese, Chinese …) have no word
boundary to look for, so between their letters only a cut inside a character cluster is refused.
"""

from __future__ import annotations

import unicodedata

_UNSPACED = ("THAI", "LAO", "KHMER", "MYANMAR", "CJK", "HIRAGANA", "KATAKANA")


def normalise(text: str) -> str:
    """Return `text` in NFKC, case-folded, with each run of white space as one space."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    # Case folding can leave a decomposed form behind, hence the second pass.
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def whole_word(text: str, start: int, end: int) -> bool:
    """Whether text[start:end] begins and ends at a word boundary of `text`."""
    left = start == 0 or not _joined(text[start - 1], text[start])
    return left and (end == len(text) or not _joined(text[end - 1], text[end]))


def contains(text: str, value: str) -> bool:
    """Whether `value` occurs in `text` as a whole word, both normalised here."""
    return contains_normalised(normalise(text), normalise(value))


def contains_normalised(text: str, value: str) -> bool:
    """The same for strings that went through `normalise` already."""
    if not value:
        return False
    start = text.find(value)
    while start != -1:
        if whole_word(text, start, start + len(value)):
            return True
        start = text.find(value, start + 1)
    return False


def _joined(before: str, after: str) -> bool:
    """Whether two neighbouring characters belong to one word or one cluster."""
    if unicodedata.category(after).startswith("M"):
        return True
    if not (_in_word(before) and _in_word(after)):
        return False
    return not (unspaced(before) or unspaced(after))


def _in_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNM"


def unspaced(character: str) -> bool:
    """Whether a character is of a script that writes words without spaces between them."""
    return unicodedata.name(character, "").startswith(_UNSPACED)
