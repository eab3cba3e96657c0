"""Dates: written forms in four languages and how one is found in a text.

A date in digits is read day, month, year; month, day, year only where the day is above 12. Years
may be of the Buddhist era (2500 and later, 543 ahead) or of a Japanese era. Month names: CLDR.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from functools import cache

from evaluation.written import EXACT, Hit
from evaluation.written.digits import FULL_WIDTH, LAO, THAI, counted, folded

BUDDHIST = 543
# Era: the year before its first, and the first day.
ERAS = {
    "令和": (2018, datetime.date(2019, 5, 1)),
    "平成": (1988, datetime.date(1989, 1, 8)),
    "昭和": (1925, datetime.date(1926, 12, 25)),
    "大正": (1911, datetime.date(1912, 7, 30)),
}
_ERA_NAMES = {
    **{name: name for name in ERAS},
    "reiwa": "令和",
    "heisei": "平成",
    "showa": "昭和",
    "shōwa": "昭和",
    "shouwa": "昭和",
    "taisho": "大正",
    "taishō": "大正",
    "r": "令和",
    "h": "平成",
    "s": "昭和",
    "t": "大正",
}
MONTHS = {
    "en": (
        "January February March April May June July August September October November December",
        "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
    ),
    "th": (
        "มกราคม กุมภาพันธ์ มีนาคม เมษายน พฤษภาคม มิถุนายน กรกฎาคม สิงหาคม กันยายน ตุลาคม พฤศจิกายน ธันวาคม",
        "ม.ค. ก.พ. มี.ค. เม.ย. พ.ค. มิ.ย. ก.ค. ส.ค. ก.ย. ต.ค. พ.ย. ธ.ค.",
    ),
    "lo": (
        "ມັງກອນ ກຸມພາ ມີນາ ເມສາ ພຶດສະພາ ມິຖຸນາ ກໍລະກົດ ສິງຫາ ກັນຍາ ຕຸລາ ພະຈິກ ທັນວາ",
        "ມ.ກ. ກ.ພ. ມ.ນ. ມ.ສ. ພ.ພ. ມິ.ຖ. ກ.ລ. ສ.ຫ. ກ.ຍ. ຕ.ລ. ພ.ຈ. ທ.ວ.",
    ),
}
# Short forms in use beside CLDR's.
_MORE = {"sept": 9, "มกรา": 1, "กุมภา": 2, "มีนา": 3, "เมษา": 4, "พฤษภา": 5, "มิถุนา": 6,
         "กรกฎา": 7, "สิงหา": 8, "กันยา": 9, "ตุลา": 10, "พฤศจิกา": 11, "ธันวา": 12}  # fmt: skip
_OF_YEAR = r"[,.]|of|in|b\.?e\.?|a\.?d\.?|年|ปี|ປີ|พ\.?\s?ศ\.?|ค\.?\s?ศ\.?|ພ\.?\s?ສ\.?|ຄ\.?\s?ສ\.?"
_YEAR_WORDS = rf"(?:{_OF_YEAR}|\s)*"
_DAY = r"(?<!\d)(?P<d>\d{1,2})(?!\d)"
_YEAR = r"(?P<y>\d{4}|\d{2})(?!\d)"
# A year behind them on the same line makes a day and a month another date.
_NO_YEAR = rf"(?!(?:{_OF_YEAR}| )*['’]?(?:\d\d|\d{{4}})(?!\d))"


@dataclass(frozen=True)
class Date:
    """A day, found in any of the forms that `forms` returns and a few more."""

    days: frozenset[datetime.date]

    @classmethod
    def of(cls, value: str) -> Date | None:
        """Read a value that is one date and nothing else; None when it is not."""
        text = _plain(value).strip()
        found: set[datetime.date] = set()
        for pattern in _full():
            if match := pattern.fullmatch(text):
                found |= {day for day in _read(match, value) if day.year > 1800}
        return cls(frozenset(found)) if found else None

    def forms(self) -> tuple[str, ...]:
        """Return the usual written forms."""
        return tuple(dict.fromkeys(form for day in sorted(self.days) for form in _forms(day)))

    def find(self, answer: str, *, lenient: bool) -> Hit | None:
        """Look for the day; lenient: also day and month without any year (1 left out)."""
        text = _plain(answer)
        for pattern in _full():
            for match in pattern.finditer(text):
                if self.days & _read(match, answer):
                    return EXACT
        if lenient:
            for pattern in _yearless():
                for match in pattern.finditer(text):
                    if any(_same_day(match, day) for day in self.days):
                        return Hit("partial", 1)
        return None


def _plain(text: str) -> str:
    single = re.sub(r"\n+", "\n", re.sub(r"[^\S\n]+", " ", folded(text)))
    return counted(single, "年月日").casefold()


def _forms(day: datetime.date) -> list[str]:
    d, m, y, b = day.day, day.month, day.year, day.year + BUDDHIST
    en, short = (names.split()[m - 1] for names in MONTHS["en"])
    found = [day.isoformat(), f"{d} {en} {y}", f"{en} {d}, {y}", f"{d} {short} {y}"]
    found += [f"{short} {d}, {y}", f"{d}{_ordinal(d)} {en} {y}", f"{en} {d}{_ordinal(d)}, {y}"]
    found += [f"{d}{s}{m}{s}{y}" for s in "/.-"] + [f"{d:02}{s}{m:02}{s}{y}" for s in "/.-"]
    found += [f"{y}/{m:02}/{d:02}", f"{y}.{m:02}.{d:02}", f"{y}/{m}/{d}"]
    if d > 12:
        found += [f"{m}/{d}/{y}", f"{m:02}/{d:02}/{y}"]
    for language, era, digits in (("th", "พ.ศ.", THAI), ("lo", "ພ.ສ.", LAO)):
        long, abbreviated = (names.split()[m - 1] for names in MONTHS[language])
        own = [f"{d} {name} {year}" for name in (long, abbreviated) for year in (y, b)]
        own += [f"{d} {long} {era} {b}", f"{d}/{m}/{b}", f"{d:02}/{m:02}/{b}"]
        found += own + [form.translate(digits) for form in own]
    japanese = [f"{y}年{m}月{d}日"]
    for era, (before, first) in ERAS.items():
        if day >= first:
            year = "元" if y - before == 1 else str(y - before)
            japanese.append(f"{era}{year}年{m}月{d}日")
            break
    return found + japanese + [form.translate(FULL_WIDTH) for form in japanese]


def _ordinal(day: int) -> str:
    return "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


@cache
def _months() -> dict[str, int]:
    names = dict(_MORE)
    for languages in MONTHS.values():
        for row in languages:
            for number, name in enumerate(row.split(), 1):
                folded_name = folded(name).casefold()
                names[folded_name] = number
                # "ม.ค." is also written "มค." and "ม.ค"
                names.setdefault(folded_name.rstrip("."), number)
    return names


@cache
def _month() -> str:
    names = sorted(_months(), key=len, reverse=True)
    joined = "|".join(re.escape(name) for name in names)
    return rf"(?:เดือน|ເດືອນ)?\s?(?P<name>(?>{joined}))(?![a-z])\.?+"


@cache
def _full() -> tuple[re.Pattern[str], ...]:
    """Patterns of a date with its year."""
    day_word = rf"{_DAY}(?:st|nd|rd|th)?"
    era = "|".join(sorted((re.escape(name) for name in _ERA_NAMES), key=len, reverse=True))
    words = _YEAR_WORDS
    patterns = (
        r"(?<!\d)(?P<y>\d{4})(?P<s>[-/.]) ?(?P<m>\d{1,2})(?P=s) ?(?P<d>\d{1,2})(?!\d)",
        rf"(?<![\d/.-])(?P<a>\d{{1,2}})(?P<s>\s?[-/.]\s?)(?P<b>\d{{1,2}})(?P=s){_YEAR}(?![./-]\d)",
        rf"{day_word}\s*(?:of\s|[-/])?\s*{_month()}[-/]?{words}\s*['’]?{_YEAR}",
        rf"(?<![a-z]){_month()}\s*(?:the\s)?{day_word}{words}\s*['’]?{_YEAR}",
        rf"(?<!\d)(?P<y>\d{{4}})[,\s]*{_month()}\s*{day_word}",
        r"(?<!\d)(?P<y>(?:19|20)\d\d)(?P<m>[01]\d)(?P<d>[0-3]\d)(?!\d)",
        rf"{_DAY}\s*(?:เดือน|ເດືອນ)(?:ที่|ທີ)?\s*(?P<m>\d{{1,2}}){words}\s*{_YEAR}",
        r"(?<!\d)(?P<y>\d{4})\s*年\s*(?P<m>\d{1,2})\s*月\s*(?P<d>\d{1,2})\s*日",
        rf"(?<![a-z])(?P<e>{era})\s*(?P<y>\d{{1,2}}|元)\s*年\s*(?P<m>\d{{1,2}})\s*月\s*(?P<d>\d{{1,2}})\s*日",
        rf"(?<![a-z])(?P<e>{era})\s?(?P<y>\d{{1,2}}|元)[./-](?P<m>\d{{1,2}})[./-](?P<d>\d{{1,2}})(?!\d)",
    )
    return tuple(re.compile(pattern) for pattern in patterns)


@cache
def _yearless() -> tuple[re.Pattern[str], ...]:
    """Patterns of a day and a month where the text gives no year; nothing is given back (?+)."""
    patterns = (
        rf"{_DAY}(?:st|nd|rd|th)?\s*(?:of\s)?{_month()}{_NO_YEAR}",
        rf"(?<![\d年] )(?<![\d年a-z]){_month()}\s*(?:the\s)?{_DAY}(?:st|nd|rd|th)?+{_NO_YEAR}",
        r"(?<![年\d]) ?(?<![年\d] )(?<!\d)(?P<m>\d{1,2})\s*月\s*(?P<d>\d{1,2})\s*日",
    )
    return tuple(re.compile(pattern) for pattern in patterns)


def _read(match: re.Match[str], text: str) -> set[datetime.date]:
    """Return the days a match can mean."""
    found = match.groupdict()
    years = _years(found["y"], found.get("e"), text)
    if found.get("name"):
        pairs = [(int(found["d"]), _months()[found["name"]])]
    elif found.get("a"):
        first, second = int(found["a"]), int(found["b"])
        pairs = [(first, second)] if second <= 12 else [(second, first)]
    else:
        pairs = [(int(found["d"]), int(found["m"]))]
    return {day for d, m in pairs for y in years if (day := _day(y, m, d))}


def _years(year: str, era: str | None, text: str) -> list[int]:
    if era:
        return [ERAS[_ERA_NAMES[era]][0] + (1 if year == "元" else int(year))]
    number = int(year)
    if len(year) == 4:
        return [number - BUDDHIST] if number >= 2400 else [number]
    # Two digits: of the last or this century; in Thai and Lao text perhaps of the Buddhist era.
    two = [1900 + number, 2000 + number]
    if re.search("[\u0e00-\u0eff]", text):
        two += [2500 + number - BUDDHIST, 2400 + number - BUDDHIST]
    return two


def _day(year: int, month: int, day: int) -> datetime.date | None:
    try:
        return datetime.date(year, month, day)
    except ValueError:
        return None


def _same_day(match: re.Match[str], day: datetime.date) -> bool:
    found = match.groupdict()
    month = _months()[found["name"]] if found.get("name") else int(found["m"])
    return (int(found["d"]), month) == (day.day, day.month)
