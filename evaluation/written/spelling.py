"""Words: one spelling for comparison, whole-word search, and slips of the pen.

Slips ("fuzzy") in scripts with spaces: at most one edit a word (a letter dropped, added, changed or
two swapped), none in a word's first letter, in digits, or in words below 6 letters (8 in names). In
all, by the letters of the value: below 8 none, to 17 one, to 27 two, from 28 on three. In Thai, Lao
and kana only tone, silencing and length marks, in values of 8 characters or more: distance 1.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

from rapidfuzz.distance import OSA

from evaluation.written import EXACT, Hit
from language_models.matching import whole_word

LEAST_LETTERS = 8
MORE_LETTERS = (18, 28)
# A changed letter makes another word more often than a dropped or doubled one does.
WORD_LETTERS = 6
WORD_LETTERS_CHANGED = 9
NAME_LETTERS = 8

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff々〆〇\u3040-\u30ff\u3400-\u9fff"
_SCRIPT_CHANGE = re.compile(
    rf"(?<=[{_UNSPACED}])(?=[^\s{_UNSPACED}])|(?<=[^\s{_UNSPACED}])(?=[{_UNSPACED}])"
)
_ACCENTS = re.compile("(?<=[a-z])[\u0300-\u036f]+")
_TONES = re.compile("[\u0e47-\u0e4e\u0ec8-\u0eccー]")
_LATIN = str.maketrans({"ø": "o", "æ": "ae", "œ": "oe", "ł": "l", "đ": "d", "ð": "d", "þ": "th",
                        "ı": "i"})  # fmt: skip
_GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
_KEPT = "+#&%@"


class _Letters(dict[int, str]):
    """Maps a character to itself when it is part of a word, and else to a space."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kind = unicodedata.category(character)
        if kind == "Nd":
            found = str(unicodedata.decimal(character))
        elif kind == "Cf":
            found = ""
        else:
            found = character if kind[0] in "LNM" or character in _KEPT else " "
        self[code] = found
        return found


_LETTERS = _Letters()


def canonical(text: str) -> str:
    """Return `text` for comparison: words by single spaces, NFKC, no case, no Latin accents.

    A space is set between letters of a script written without spaces and those of another.
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    if not plain.isascii():
        plain = _ACCENTS.sub("", unicodedata.normalize("NFD", plain.translate(_LATIN)))
        plain = unicodedata.normalize("NFC", plain).replace("เเ", "แ")
    plain = re.sub(r"(?<=\w)['’ʼ]s\b", "", plain)
    plain = re.sub(r"['’ʼ`*]", "", plain)
    plain = _SCRIPT_CHANGE.sub(" ", plain.translate(_LETTERS))
    return " ".join(plain.split())


def unspaced(word: str) -> bool:
    """Whether a word begins with a script that is written without spaces."""
    return re.match(rf"[{_UNSPACED}]", word) is not None


def occurs(text: str, value: str) -> bool:
    """Whether `value` is a whole word, or words, of `text`; both are canonical."""
    start = text.find(value) if value else -1
    while start != -1:
        if whole_word(text, start, start + len(value)):
            return True
        start = text.find(value, start + 1)
    return False


@dataclass(frozen=True)
class Text:
    """A value of words. spellings: canonical ones; name: namesakes stand near, so fewer slips."""

    spellings: frozenset[str]
    joined: frozenset[str]
    name: bool = False

    @classmethod
    def of(cls, value: str, *, name: bool = False) -> Text:
        """Read a value: with and without accents, joined and in parts."""
        found = {canonical(value), canonical(value.casefold().translate(_GERMAN))} - {""}
        joined = {spelling.replace(" ", "") for spelling in found}
        joined = {word for word in joined if len(word) >= WORD_LETTERS or unspaced(word)}
        return cls(frozenset(found), frozenset(joined), name)

    def find(self, answer: str, *, lenient: bool) -> Hit | None:
        """Look for the words in an answer."""
        return self.find_canonical(canonical(answer), lenient=lenient)

    def find_canonical(self, text: str, *, lenient: bool) -> Hit | None:
        """The same for an answer that went through `canonical`."""
        if any(occurs(text, spelling) for spelling in self.spellings | self.joined):
            return EXACT
        if not lenient:
            return None
        found = [edits for spelling in self.spellings if (edits := self._slips(text, spelling))]
        return Hit("fuzzy", min(found)) if found else None

    def _slips(self, text: str, value: str) -> int | None:
        allowed = allowed_edits(value)
        if not allowed:
            return None
        if _TONES.search(value) or unspaced(value):
            bare = _TONES.sub("", value)
            return 1 if occurs(_TONES.sub("", text), bare) else None
        words, wanted = text.split(), value.split()
        for start in range(len(words) - len(wanted) + 1):
            edits = 0
            for word, right in zip(words[start:], wanted, strict=False):
                edits += slip(word, right, name=self.name)
                if edits > allowed:
                    break
            else:
                return edits
        return None


def allowed_edits(value: str) -> int:
    """How many slips a value may hold, by its letters."""
    letters = len(value.replace(" ", ""))
    return (letters >= LEAST_LETTERS) + sum(letters >= more for more in MORE_LETTERS)


def slip(word: str, right: str, *, name: bool) -> int:
    """0 for the same word, 1 for one with a slip, and a large number for another word."""
    if word == right:
        return 0
    least = NAME_LETTERS if name else WORD_LETTERS
    plain = right.isalpha() and not unspaced(right) and word[0] == right[0]
    if not plain or len(right) < least or OSA.distance(word, right, score_cutoff=1) > 1:
        return 99
    if len(word) == len(right) and Counter(word) != Counter(right):
        inside = word[-1] == right[-1]
        return 1 if not name and inside and len(right) >= WORD_LETTERS_CHANGED else 99
    # Another ending makes another word (sciatica, sciatic; Christian, Christiana); a plural none.
    same_end = word[-1] == right[-1] or (not name and word == right + "s")
    return 1 if same_end else 99
