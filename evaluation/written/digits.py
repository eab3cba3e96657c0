"""Digits of any script, digits said as words, and the runs of digit groups in a text."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

THAI = str.maketrans("0123456789", "๐๑๒๓๔๕๖๗๘๙")
LAO = str.maketrans("0123456789", "໐໑໒໓໔໕໖໗໘໙")
FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")
SCRIPTS = (THAI, LAO, FULL_WIDTH)

# Each digit as it is said when a number is read out, 0 to 9.
SPOKEN = (
    ("zero one two three four five six seven eight nine", "oh one two three four five six seven"),
    ("ศูนย์ หนึ่ง สอง สาม สี่ ห้า หก เจ็ด แปด เก้า", "ศูนย์ หนึ่ง โท สาม สี่"),
    (
        "ゼロ いち に さん よん ご ろく なな はち きゅう",
        "れい いち に さん し ご ろく しち はち く",
    ),
    ("ສູນ ໜຶ່ງ ສອງ ສາມ ສີ່ ຫ້າ ຫົກ ເຈັດ ແປດ ເກົ້າ", "ສູນ ນຶ່ງ"),
)
_KANJI = str.maketrans("〇零一二三四五六七八九", "00123456789")
_MANY = {"double": 2, "triple": 3}
# What a number that is cut short must still have, and what may be missing of its last digits.
LAST_DIGITS = 6
LEFT_OUT = 2
_LIST_NUMBER = re.compile(r"^[ \t]*\d{1,2}[.)][ \t]+", re.MULTILINE)
# Fewer words of digits in a row are ordinary speech.
_SPOKEN_AT_LEAST = 4


@dataclass(frozen=True)
class Run:
    """Digit groups with only separators between them. before: what stands in front of the run."""

    groups: tuple[str, ...]
    before: str
    after: str


def folded(text: str) -> str:
    """Return `text` in NFKC with every decimal digit as an ASCII digit."""
    normal = unicodedata.normalize("NFKC", text)
    if normal.isascii():
        return normal
    return "".join(
        str(unicodedata.decimal(character)) if character.isdecimal() else character
        for character in normal
    )


def spoken_as_digits(text: str) -> str:
    """Replace runs of at least four digit words by digits; `text` went through `folded`."""
    return _kanji_runs().sub(
        lambda run: re.sub(r"\D", "", run[0].translate(_KANJI)), _spoken_runs(text)
    )


def whole_runs(text: str) -> list[Run]:
    """Return the runs between commas, each also without what may stand in front of it: a year, or
    the number of an entry in a list.
    """
    unlisted = _LIST_NUMBER.sub("", text)
    found = runs(text, hard=",") + (runs(unlisted, hard=",") if unlisted != text else [])
    return found + [
        Run(run.groups[1:], "", run.after)
        for run in found
        if len(run.groups) > 1 and re.fullmatch(r"(?:19|20|25)\d\d", run.groups[0])
    ]


def counted(text: str, units: str) -> str:
    """Replace Chinese numerals in front of one of `units` (三月, 十四日, 二丁目) by digits."""
    return re.sub(
        rf"[〇零一二三四五六七八九十百千]+(?=[{units}])", lambda found: _numeral(found[0]), text
    )


def runs(text: str, *, hard: str = "") -> list[Run]:
    """Return the digit runs of a folded text; a character of `hard` is no separator."""
    separators = "".join(c for c in " .-()/,·・ー‐‑‒–—−_\u3000" if c not in hard)
    between = rf"[{re.escape(separators)}]{{1,3}}"
    pattern = re.compile(rf"\d+(?:{between}\d+)*")
    return [
        Run(
            tuple(re.findall(r"\d+", match[0])),
            text[max(0, match.start() - 3) : match.start()],
            text[match.end() : match.end() + 3],
        )
        for match in pattern.finditer(text)
    ]


def cut_short(digits: str, whole: str) -> int | None:
    """How many digits `digits` leaves out of `whole`; None when it is not cut short within limits.

    Within limits are at least the last LAST_DIGITS, all but at most LEFT_OUT of the last ones, and
    all but one anywhere; never fewer than LAST_DIGITS.
    """
    missing = len(whole) - len(digits)
    if missing < 1 or len(digits) < LAST_DIGITS:
        return None
    rest = iter(whole)
    if (
        whole.endswith(digits)
        or (whole.startswith(digits) and missing <= LEFT_OUT)
        or (missing == 1 and all(digit in rest for digit in digits))
    ):
        return missing
    return None


def _numeral(text: str) -> str:
    """十四 is 14, 一九八五 is 1985, 千九百八十五 as well."""
    if not re.search("[十百千]", text):
        return text.translate(_KANJI)
    total = digit = 0
    for character in text:
        if factor := {"十": 10, "百": 100, "千": 1000}.get(character):
            total, digit = total + max(digit, 1) * factor, 0
        else:
            digit = int(character.translate(_KANJI))
    return str(total + digit)


@cache
def _words() -> dict[str, str]:
    words: dict[str, str] = {}
    for language in SPOKEN:
        for row in language:
            words |= {
                unicodedata.normalize("NFKC", word): str(digit)
                for digit, word in enumerate(row.split())
            }
    return words


@cache
def _pattern() -> re.Pattern[str]:
    words = sorted(_words(), key=len, reverse=True)
    latin = "|".join(word for word in words if word.isascii())
    other = "|".join(word for word in words if not word.isascii())
    one = rf"(?:\b(?:(?:double|triple) )?(?:{latin})\b|{other})"
    gap = r"[ ,.\-–、・]{0,2}"
    return re.compile(rf"{one}(?:{gap}{one}){{{_SPOKEN_AT_LEAST - 1},}}", re.IGNORECASE)


@cache
def _kanji_runs() -> re.Pattern[str]:
    return re.compile(r"[〇零一二三四五六七八九](?:[ 、・\-ー－の]?[〇零一二三四五六七八九]){5,}")


def _spoken_runs(text: str) -> str:
    words = _words()
    word = re.compile(
        rf"(double |triple )?({'|'.join(sorted(words, key=len, reverse=True))})", re.IGNORECASE
    )

    def digits(run: re.Match[str]) -> str:
        said = "".join(
            words[name.casefold()] * _MANY.get(many.strip().casefold(), 1)
            for many, name in word.findall(run[0])
        )
        return f" {said} "

    # "Oh, zero two …" begins with no digit.
    return _pattern().sub(digits, re.sub(r"(?<!\w )\boh[,!]", " ", text, flags=re.I))
