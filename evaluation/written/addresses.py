"""Postal addresses: written forms and how one is found in a text.

What tells one address from its neighbours is the house number with the street (or the block
numbers with the district); a town alone is no address.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from evaluation.written import EXACT, Hit
from evaluation.written.digits import counted, folded
from evaluation.written.spelling import canonical, slip

# Each word of an address that is also written short, by its one spelling here.
_SHORT = {
    "street": "st", "road": "rd", "avenue": "ave", "av": "ave", "lane": "ln", "drive": "dr",
    "square": "sq", "boulevard": "blvd", "place": "pl", "court": "ct", "terrace": "ter",
    "apartment": "apt", "flat": "apt", "thanon": "rd",
}  # fmt: skip
_DROPPED = ("no", "number", "house", "home", "the", "of", "moo", "mu", "soi")
_NATIVE = (
    ("ถนน", " ถ "), ("ถ.", " ถ "), ("ซอย", " ซ "), ("ซ.", " ซ "), ("หมู่ที่", " ม "), ("หมู่", " ม "),
    ("ม.", " ม "), ("บ้านเลขที่", " "), ("เลขที่", " "), ("ตำบล", " ต "), ("ต.", " ต "),
    ("อำเภอ", " อ "), ("อ.", " อ "), ("จังหวัด", " จ "), ("จ.", " จ "), ("แขวง", " "), ("เขต", " "),
    ("ຖະໜົນ", " "), ("ຖ.", " "), ("ບ້ານເລກທີ", " "), ("ເລກທີ", " "), ("ບ້ານ", " "), ("ບ.", " "),
    ("ເມືອງ", " "), ("ມ.", " "), ("ແຂວງ", " "), ("ຮ່ອມ", " "), ("丁目", "-"), ("番地", "-"),
    ("番", "-"), ("号", " "), ("の", "-"),
)  # fmt: skip
_MARKS = frozenset("ถซมตอจ")
_DISTRICT = re.compile(
    r"\s(?=ตำบล|ต\.|อำเภอ|อ\.|จังหวัด|จ\.|แขวง|เขต|กรุงเทพ|ເມືອງ|ມ\.|ແຂວງ|ບ້ານ|ບ\.|ນະຄອນຫຼວງ)"
)
_JAPANESE_TOWN = re.compile(
    r"^(?:[^\d\s]{2,3}?[都道府県])?(?:[^\d\s]+?市)?(?:[^\d\s]+?区)?(?=[^\d\s]{2,}\d)"
)
# Other parts may stand between a number and its street; a number follows its street at once.
_WINDOW = 3


@dataclass(frozen=True)
class Address:
    """An address. key: the words up to the street in order; value: as given."""

    key: tuple[str, ...]
    value: str

    @classmethod
    def of(cls, value: str) -> Address | None:
        """Read a value; None without a number and a word."""
        # Districts and towns may be left out where number and street are given.
        street = _JAPANESE_TOWN.sub("", _DISTRICT.sub(",", folded(value)), count=1)
        parts = [part for part in re.split(r"[,、\n]", street) if part.strip()]
        key: list[str] = []
        for part in parts:
            key += _words(part)
            if _has_number(key) and any(not word[0].isdigit() for word in key):
                break
        if not (_has_number(key) and any(not word[0].isdigit() for word in key)):
            return None
        return cls(tuple(key), value)

    def forms(self) -> tuple[str, ...]:
        """Return the usual written forms."""
        found = [self.value, self.value.replace(",", ""), self.value.replace(", ", "\n")]
        for long, short in (("Street", "St."), ("Road", "Rd."), ("Avenue", "Ave."), ("Lane", "Ln."),
                            ("ถนน", "ถ."), ("ซอย", "ซ."), ("ຖະໜົນ", "ຖ.")):  # fmt: skip
            if long in self.value:
                found.append(self.value.replace(long, short))
        blocks = re.sub(r"(\d+)丁目(\d+)番(?:地)?(\d+)号?", r"\1-\2-\3", folded(self.value))
        return tuple(dict.fromkeys([*found, blocks]))

    def find(self, answer: str, *, lenient: bool) -> Hit | None:
        """Look for number and street in an answer; lenient: with slips in its words."""
        words = _words(answer)
        numbers = tuple(word for word in self.key if word[0].isdigit())
        names = tuple(word for word in self.key if not word[0].isdigit())
        # "5 Mill Road", "Hauptstr. 5"
        for order in dict.fromkeys((self.key, numbers + names, names + numbers)):
            edits = _in_order(words, order, lenient=lenient)
            if edits is not None:
                return Hit("fuzzy", edits) if edits else EXACT
        return None


def _has_number(words: list[str]) -> bool:
    return any(word[0].isdigit() for word in words)


def _words(text: str) -> list[str]:
    """The words and the numbers (12/3 and 1-2-3 are one each) that tell addresses apart."""
    plain = counted(folded(text), "丁番号").casefold()
    plain = re.sub(r"str(?:aße|asse|\.|\b)", " str ", plain)
    for long, short in _NATIVE:
        # In Thai and Lao only at the beginning of a word: ສີເມືອງ is a name.
        plain = re.sub(rf"(?<![\u0e01-\u0eff]){re.escape(folded(long))}", short, plain)
    plain = re.sub(r"(?<=\d)\s*[-/‐‑–−ー]\s*(?=\d)", "x", plain)
    plain = re.sub(r"[-]+(?=\D|$)", " ", plain)
    # A space keeps a number apart from the letters beside it, "x" joins its parts.
    plain = re.sub(r"(\d+(?:x\d+)*[a-zA-Z]?)(?![\da-zA-Z])", r" \1 ", plain)
    words = [_SHORT.get(word, word) for word in canonical(plain).split()]
    return [word for word in words if word not in _DROPPED and word not in _MARKS]


def _in_order(words: list[str], key: tuple[str, ...], *, lenient: bool) -> int | None:
    """The least edits with which the words of `key` follow one another, or None."""
    best: int | None = None
    for start in range(len(words)):
        place, edits = start, 0
        for wanted in key:
            alone = place == start or wanted[0].isdigit()
            near = words[place : place + (1 if alone else _WINDOW)]
            found = _first(near, wanted, lenient=lenient)
            if found is None:
                break
            place, edits = place + found[0] + 1, edits + found[1]
        else:
            best = edits if best is None else min(best, edits)
    return best


def _first(near: list[str], wanted: str, *, lenient: bool) -> tuple[int, int] | None:
    for offset, word in enumerate(near):
        if word == wanted or _holds(word, wanted):
            return offset, 0
    if lenient:
        for offset, word in enumerate(near):
            if slip(word, wanted, name=False) == 1:
                return offset, 1
    return None


def _holds(word: str, wanted: str) -> bool:
    """In scripts without spaces the word may be stuck to its neighbours."""
    return not wanted.isascii() and len(wanted) >= 2 and wanted in word
