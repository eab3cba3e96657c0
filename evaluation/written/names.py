"""Names of people: orders, titles, initials, and how one is found in a text.

The family name alone, or the given name alone, is not the name. Initials count as a partial form,
and only together with the family name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import permutations

from evaluation.written import EXACT, Hit
from evaluation.written.spelling import Text, canonical, unspaced

# Canonical titles that are no part of a name.
TITLES = (
    "mr", "mrs", "ms", "miss", "mx", "dr", "prof", "sir", "khun", "นาย", "นางสาว", "นาง", "คุณ",
    "ดร", "ท่าน", "ທ້າວ", "ທ່ານ", "ນາງສາວ", "ນາງ",
)  # fmt: skip
_BEHIND = ("さん", "様", "さま", "氏", "先生", "君", "ちゃん", "san", "sama")
_TITLE_BEHIND = re.compile(r"-(?=(?:san|sama|kun|chan|sensei|dono|shi)\b)", re.IGNORECASE)
_HYPHEN = re.compile(r"(?<=[^\W\d_])[-‐‑](?=[^\W\d_])")
# A Chinese character behind a name in Chinese characters lengthens it, unless it begins a title.
_LONGER = re.compile(r"[\u3400-\u9fff]")
_NO_LONGER = "様氏君殿先医社部課教本名宅夫妻家"


@dataclass(frozen=True)
class Name:
    """A full name. parts: its words as written; short: canonical forms with initials."""

    parts: tuple[str, ...]
    whole: tuple[Text, ...]
    short: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, value: str) -> Name | None:
        """Read a value of two words or more; None for one word (compared as a text)."""
        parts = _without_titles(value.replace(",", " ").split())
        if not 2 <= len(parts) <= 4:
            return None
        orders = [" ".join(order) for order in _orders(parts)]
        orders += [_HYPHEN.sub("", order) for order in orders]
        whole = tuple(Text.of(order, name=True) for order in dict.fromkeys(orders))
        return cls(tuple(parts), whole, _initials(parts))

    def forms(self) -> tuple[str, ...]:
        """Return the usual written forms of the whole name."""
        given, family = " ".join(self.parts[:-1]), self.parts[-1]
        if unspaced(self.parts[0]):
            found = [" ".join(self.parts), "".join(self.parts), "・".join(self.parts)]
            return (*found, f"{family} {given}")
        return (f"{given} {family}", f"{family} {given}", f"{family}, {given}",
                f"{given} {family.upper()}", f"{family.upper()} {given}")  # fmt: skip

    def _without_longer(self, text: str) -> str:
        """Leave out longer names that begin with this one: 田中博之 is not 田中博."""
        last = self.parts[-1]
        if not _LONGER.match(last[-1:]):
            return text
        return re.sub(rf"{re.escape(last)}(?=[\u3400-\u9fff])(?![{_NO_LONGER}])", " ", text)

    def find(self, answer: str, *, lenient: bool) -> Hit | None:
        """Look for the name in an answer."""
        # A hyphen makes one name of two, but not of a name and a title.
        text = canonical(_HYPHEN.sub("", _TITLE_BEHIND.sub(" ", answer)))
        text = self._without_longer(text)
        hits = [hit for form in self.whole if (hit := form.find_canonical(text, lenient=lenient))]
        if EXACT in hits:
            return EXACT
        if hits or not lenient:
            return min(hits, key=lambda hit: hit.distance, default=None)
        padded = f" {text} "
        short = [left for form, left in self.short if f" {form} " in padded]
        return Hit("partial", min(short)) if short else None


def _orders(parts: list[str]) -> list[tuple[str, ...]]:
    """As given, and with the last or the first word at the other end."""
    if len(parts) == 2:
        return list(permutations(parts))
    return [tuple(parts), (parts[-1], *parts[:-1]), (*parts[1:], parts[0])]


def _without_titles(words: list[str]) -> list[str]:
    kept = [word for word in words if canonical(word) not in TITLES + _BEHIND]
    return kept or words


def _initials(parts: list[str]) -> tuple[tuple[str, int], ...]:
    """ "A. Tanaka", "Tanaka, A." with how many letters they leave out; for spaced scripts only."""
    if any(unspaced(part) for part in parts):
        return ()
    *given, family = (canonical(part) for part in parts)
    if len(family) < 3:
        return ()
    left = sum(len(name) - 1 for name in given)
    first = " ".join(name[0] for name in given)
    return ((f"{first} {family}", left), (f"{family} {first}", left))
