"""Text as it goes on the page: hostile characters out, Thai and Lao made safe, dates and figures.

The exact text of a record stays in the attached JSON; what is changed here is its look only.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reports.record import Language

Pair = tuple[str, object]
# Characters that a column of two pairs a row takes in two lines.
HALF_A_LINE = 80
MAXIMUM_LENGTH = 6000
CUT = " […] (cut here; the full text is in the attached JSON)"

# WeasyPrint drops half of SARA AM from the text layer; its two parts survive and look the same.
THAI_AM = re.compile("([\u0e48-\u0e4b]?)\u0e33")
LAO_AM = re.compile("([\u0ec8-\u0ecb]?)\u0eb3")
# Pango has no Lao word breaker. A vowel written before its consonant always starts a syllable.
LAO_SYLLABLE = re.compile("(?<=[\u0e81-\u0ecd])(?=[\u0ec0-\u0ec4])")
KEPT_FORMAT = {"\u200b", "\u200c", "\u200d"}

MONTHS: dict[str, tuple[str, ...]] = {
    "en": (
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ),
    "th": (
        "มกราคม",
        "กุมภาพันธ์",
        "มีนาคม",
        "เมษายน",
        "พฤษภาคม",
        "มิถุนายน",
        "กรกฎาคม",
        "สิงหาคม",
        "กันยายน",
        "ตุลาคม",
        "พฤศจิกายน",
        "ธันวาคม",
    ),
    "lo": (
        "ມັງກອນ",
        "ກຸມພາ",
        "ມີນາ",
        "ເມສາ",
        "ພຶດສະພາ",
        "ມິຖຸນາ",
        "ກໍລະກົດ",
        "ສິງຫາ",
        "ກັນຍາ",
        "ຕຸລາ",
        "ພະຈິກ",
        "ທັນວາ",
    ),
}
BUDDHIST_ERA = 543


def clean(text: str) -> str:
    """Return text without control, bidirectional and private-use characters, capped in length."""
    kept = "".join(char for char in text if _is_printable(char))
    return kept if len(kept) <= MAXIMUM_LENGTH else kept[:MAXIMUM_LENGTH] + CUT


def _is_printable(char: str) -> bool:
    if char in "\n\t" or char in KEPT_FORMAT:
        return True
    return unicodedata.category(char) not in {"Cc", "Cf", "Co", "Cs", "Cn"}


def set_scripts(text: str) -> str:
    """Return text with SARA AM in two parts (Thai, Lao) and break points between Lao syllables."""
    text = THAI_AM.sub("\u0e4d\\1\u0e32", text)
    text = LAO_AM.sub("\u0ecd\\1\u0eb2", text)
    return LAO_SYLLABLE.sub("\u200b", text)


def long_date(day: str, language: Language) -> str:
    """Return an ISO day as it is written in the language; Thai in the Buddhist era."""
    value = date.fromisoformat(day)
    if language == "ja":
        return f"{value.year}年{value.month}月{value.day}日"
    year = value.year + (BUDDHIST_ERA if language == "th" else 0)
    return f"{value.day} {MONTHS[language][value.month - 1]} {year}"


def moment(value: str | None) -> str:
    """Return an ISO time as day and minute in UTC; an en dash for none."""
    if value is None:
        return "–"
    at = datetime.fromisoformat(value).astimezone(UTC)
    return f"{at.day} {MONTHS['en'][at.month - 1][:3]} {at.year}, {at:%H:%M} UTC"


def percent(value: float | None) -> str:
    """Return a fraction as per cent with one decimal; never round a hit away to 0 or 100."""
    if value is None:
        return "–"
    if 0 < value < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= value < 1:
        return "> 99.9 %"
    # Adding nothing takes the sign off a fall that rounds to nothing.
    return f"{round(100 * value, 1) + 0.0:.1f} %"


def number(value: float) -> str:
    """Return a number with thin spaces between thousands, at most four significant decimals."""
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u2009")
    return f"{value:.4g}"


def figure(value: float, unit: str) -> str:
    """Return what was measured in its unit: a rate as per cent, a count whole, else a number."""
    if unit == "rate":
        return percent(value)
    return number(round(value)) if unit == "count" else number(value)


def area(value: float | None) -> str:
    """Return a figure between 0 and 1 with two decimals; an en dash for none."""
    return "–" if value is None else f"{value:.2f}"


def by_length(pairs: Iterable[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Return pairs whose value is short, and those whose text would not fit half a line."""
    short: list[Pair] = []
    long: list[Pair] = []
    for pair in pairs:
        wide = isinstance(pair[1], str) and len(pair[1]) > HALF_A_LINE
        (long if wide else short).append(pair)
    return short, long


def words(value: str) -> str:
    """Return a stored name as words: partly_fulfilled becomes Partly fulfilled."""
    text = value.replace("_", " ").strip()
    return text[:1].upper() + text[1:]
