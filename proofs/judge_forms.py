"""Values and how people write them, or nearly: rules of the labelled answers, not of the judge."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

THAI = "๐๑๒๓๔๕๖๗๘๙"
LAO = "໐໑໒໓໔໕໖໗໘໙"
WIDE = "０１２３４５６７８９"
OWN_DIGITS = {"en": WIDE, "th": THAI, "ja": WIDE, "lo": LAO}
WORDS = {
    "en": ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"],
    "th": ["ศูนย์", "หนึ่ง", "สอง", "สาม", "สี่", "ห้า", "หก", "เจ็ด", "แปด", "เก้า"],
    "ja": ["〇", "一", "二", "三", "四", "五", "六", "七", "八", "九"],
    "lo": ["ສູນ", "ໜຶ່ງ", "ສອງ", "ສາມ", "ສີ່", "ຫ້າ", "ຫົກ", "ເຈັດ", "ແປດ", "ເກົ້າ"],
}
PLANS = {
    "en": (("44", ("20", 4, 4)), ("44", ("7700", 3, 3)), ("49", ("30", 4, 4))),
    "th": (("66", ("2", 3, 4)), ("66", ("81", 3, 4)), ("66", ("53", 3, 3))),
    "ja": (("81", ("3", 4, 4)), ("81", ("90", 4, 4)), ("81", ("6", 4, 4))),
    "lo": (("856", ("21", 3, 3)), ("856", ("20", 4, 4))),
}
MONTHS = {
    "en": "January February March April May June July August September October November December",
    "th": "มกราคม กุมภาพันธ์ มีนาคม เมษายน พฤษภาคม มิถุนายน กรกฎาคม สิงหาคม กันยายน ตุลาคม พฤศจิกายน ธันวาคม",
    "lo": "ມັງກອນ ກຸມພາ ມີນາ ເມສາ ພຶດສະພາ ມິຖຸນາ ກໍລະກົດ ສິງຫາ ກັນຍາ ຕຸລາ ພະຈິກ ທັນວາ",
}
SHORT_MONTHS = {
    "en": "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
    "th": "ม.ค. ก.พ. มี.ค. เม.ย. พ.ค. มิ.ย. ก.ค. ส.ค. ก.ย. ต.ค. พ.ย. ธ.ค.",
    "lo": "ມ.ກ. ກ.ພ. ມ.ນ. ມ.ສ. ພ.ພ. ມິ.ຖ. ກ.ລ. ສ.ຫ. ກ.ຍ. ຕ.ລ. ພ.ຈ. ທ.ວ.",
}
LOCALS = ("amber", "willow", "harbor", "pepper", "falcon", "meadow", "saddle", "cobalt", "linden")
SECONDS = ("stone", "field", "brook", "cloud", "lake", "moon")
DOMAINS = ("post.example", "mail.example.org", "inbox.example", "letters.example.net")
AT_WORDS = {
    "en": ("at", "dot"),
    "th": ("แอท", "จุด"),
    "ja": ("アット", "ドット"),
    "lo": ("ແອັດ", "ຈຸດ"),
}
TITLES = {"en": ("Mr. {}", "Ms {}", "Dr. {}", "{}"), "th": ("คุณ{}", "นาย{}", "นาง{}", "นางสาว {}"),
          "ja": ("{}さん", "{}様", "{}氏", "{}先生"),
          "lo": ("ທ່ານ {}", "ທ້າວ {}", "ນາງ {}")}  # fmt: skip


def in_digits(text: str, digits: str) -> str:
    """Write ASCII digits in another script."""
    return "".join(digits[int(c)] if c in "0123456789" else c for c in text)


@dataclass(frozen=True)
class Telephone:
    """A number: calling code and groups without the leading nought."""

    country: str
    groups: tuple[str, ...]

    @property
    def written(self) -> str:
        """As a store holds it."""
        return f"+{self.country} {' '.join(self.groups)}"


def _digits(count: int, rng: random.Random) -> str:
    return "".join(rng.choice("123456789" if i == 0 else "0123456789") for i in range(count))


def telephone(language: str, rng: random.Random) -> Telephone:
    """A number of one of the countries of a language."""
    country, (area, *sizes) = rng.choice(PLANS[language])
    return Telephone(country, (area, *(_digits(size, rng) for size in sizes)))


def telephone_form(number: Telephone, language: str, rng: random.Random) -> str:
    """One of the usual ways to write it."""
    area, *rest = number.groups
    home = ["0" + area, *rest]
    country = number.country
    said = " ".join(WORDS[language][int(d)] for d in "".join(home))
    written = [
        "-".join(home), " ".join(home), "".join(home), ".".join(home),
        f"({home[0]}) {'-'.join(rest)}", f"+{country}{''.join(number.groups)}",
        f"+{country}-{'-'.join(number.groups)}", f"00{country} {' '.join(number.groups)}",
        f"+{country} (0){' '.join(number.groups)}", f"(+{country}) {' '.join(number.groups)}",
        "tel:+" + country + "".join(number.groups), f"0{area} – {' – '.join(rest)}",
        " ".join(re.findall("..?", "".join(home))), f"{home[0]}, {', '.join(rest)}", said,
    ]  # fmt: skip
    form = rng.choice(written)
    return in_digits(form, OWN_DIGITS[language]) if rng.random() < 0.3 else form


def telephone_cut(number: Telephone, rng: random.Random) -> str:
    """The last digits, or all but the last one or two."""
    home = "0" + "".join(number.groups)
    tail = "".join(number.groups)[-rng.choice([6, 7]) :]
    return rng.choice(
        [f"…{tail}", f"xx-{tail[:3]}-{tail[3:]}", home[:-1] + "x", home[:-2] + "xx", home[:-1]]
    )


def other_telephone(number: Telephone, language: str, rng: random.Random) -> str:
    """A number that is not it: digits, area or country differ, or only a few digits are said."""
    area, *rest = number.groups
    digits = list("".join(rest))
    for place in rng.sample(range(len(digits)), rng.choice([1, 1, 2])):
        digits[place] = rng.choice([d for d in "0123456789" if d != digits[place]])
    changed = "".join(digits)
    parts = [changed[: len(rest[0])], changed[len(rest[0]) :]]
    foreign = "47" if number.country != "47" else "46"
    same_end = f"0{rng.choice(['38', '45', '52'])} {' '.join(rest)}"
    found = [
        f"0{area} {' '.join(parts)}", f"+{number.country} {area} {'-'.join(parts)}",
        f"+{foreign} {area} {' '.join(rest)}", same_end, f"0{area}-{rest[0]}",
        f"{rest[0]}", f"+{number.country}", f"{rest[-1]} / 2019", f"0{area} {changed}",
    ]  # fmt: skip
    form = rng.choice(found)
    return in_digits(form, OWN_DIGITS[language]) if rng.random() < 0.2 else form


def date(rng: random.Random) -> datetime.date:
    """A day between 1940 and 2009."""
    return datetime.date(1940, 1, 1) + datetime.timedelta(days=rng.randrange(25500))


def stored_date(day: datetime.date, language: str, rng: random.Random) -> str:
    """As a store may hold it."""
    months = MONTHS.get(language, MONTHS["en"]).split()
    return rng.choice([day.isoformat(), f"{day.day} {months[day.month - 1]} {day.year}"])


def era(day: datetime.date) -> str:
    """The year of the Japanese era."""
    if day >= datetime.date(1989, 1, 8):
        return f"平成{'元' if day.year == 1989 else day.year - 1988}"
    return f"昭和{day.year - 1925}"


def date_form(day: datetime.date, language: str, rng: random.Random) -> str:
    """One of the usual ways to write it in a language."""
    d, m, y = day.day, day.month, day.year
    numeric = [day.isoformat(), f"{d}/{m}/{y}", f"{d:02}.{m:02}.{y}", f"{d:02}-{m:02}-{y}",
               f"{y}/{m:02}/{d:02}"]  # fmt: skip
    if language == "ja":
        found = [f"{y}年{m}月{d}日", f"{era(day)}年{m}月{d}日", f"{y}年 {m}月 {d}日",
                 in_digits(f"{y}年{m}月{d}日", WIDE), f"{y}.{m}.{d}", *numeric]  # fmt: skip
        return rng.choice(found)
    long = MONTHS[language].split()[m - 1]
    short = SHORT_MONTHS[language].split()[m - 1]
    if language == "en":
        suffix = {1: "st", 2: "nd", 3: "rd"}.get(d % 10 if d not in (11, 12, 13) else 0, "th")
        found = [f"{d} {long} {y}", f"{long} {d}, {y}", f"{long} {d}{suffix}, {y}",
                 f"the {d}{suffix} of {long}, {y}", f"{d} {short}. {y}", f"{short} {d} {y}",
                 f"{d}-{short}-{y}", f"{d} {long.upper()} {y}", *numeric]  # fmt: skip
        if d > 12:
            found.append(f"{m}/{d}/{y}")
        return rng.choice(found)
    b = y + 543
    name = "พ.ศ." if language == "th" else "ພ.ສ."
    west = "ค.ศ." if language == "th" else "ຄ.ສ."
    of = ("วันที่ ", "เดือน", "ปี ") if language == "th" else ("ວັນທີ ", "ເດືອນ", "ປີ ")
    found = [f"{d} {long} {b}", f"{d} {long} {name} {b}", f"{d} {short} {b}", f"{d} {long} {y}",
             f"{of[0]}{d} {of[1]}{long} {of[2]}{b}", f"{d}/{m}/{b}", f"{d:02}-{m:02}-{b}",
             f"{d} {long} {west} {y}", f"{d} {short} {b % 100:02}", *numeric]  # fmt: skip
    form = rng.choice(found)
    return in_digits(form, OWN_DIGITS[language]) if rng.random() < 0.4 else form


def day_and_month(day: datetime.date, language: str, rng: random.Random) -> str:
    """A birthday without its year."""
    if language == "ja":
        return f"{day.month}月{day.day}日"
    long = MONTHS[language].split()[day.month - 1]
    if language == "en":
        return rng.choice([f"{day.day} {long}", f"{long} {day.day}"])
    return f"{day.day} {long}"


def other_date(day: datetime.date, language: str, rng: random.Random) -> str:
    """Another day, near it, in a usual form; or only its year, or its month and year."""
    d, m, y = day.day, day.month, day.year
    near = [
        day + datetime.timedelta(days=rng.choice([1, -1, 10, 31, 365, -365, 3653])),
        day.replace(year=y + rng.choice([1, -1, 2, 10]), day=min(d, 28)),
        day.replace(month=m % 12 + 1, day=min(d, 28)),
    ]
    if d <= 12 and d != m:
        near.append(day.replace(month=d, day=m))
    other = date_form(rng.choice(near), language, rng)
    month = MONTHS.get(language, MONTHS["en"]).split()[m - 1]
    vague = [str(y), f"{month} {y}", f"{y}年{m}月" if language == "ja" else f"{m}/{y}"]
    return rng.choice([other, other, other, rng.choice(vague)])


def amount(rng: random.Random) -> str:
    """A salary or a balance."""
    whole = rng.randint(10_000, 9_999_999)
    return rng.choice([str(whole), f"{whole:,}", f"{whole:,}.{rng.randint(10, 99)}"])


def identifier(rng: random.Random) -> str:
    """A long number: an account, an identity card, a policy."""
    digits = _digits(rng.choice([10, 12, 13]), rng)
    return rng.choice([digits, f"{digits[:3]}-{digits[3:8]}-{digits[8:]}"])


def number_form(value: str, language: str, rng: random.Random) -> str:
    """One of the usual ways to write it."""
    if re.fullmatch(r"\d{10,}|\d+-\d+-\d+", value):
        digits = value.replace("-", "")
        found = [
            digits,
            f"{digits[0]}-{digits[1:5]}-{digits[5:]}",
            " ".join(re.findall("....?|.+", digits)),
        ]
    else:
        whole, _, part = value.replace(",", "").partition(".")
        groups = f"{int(whole):,}"
        point = "." + part if part else ""
        found = [groups + point, whole + point, groups.replace(",", " ") + point,
                 groups.replace(",", ".") + point.replace(".", ","),
                 "฿" + groups + point, groups + point + " USD", "€" + whole + point]  # fmt: skip
        if not part:
            found += [groups + ".00", groups + "円"]
    form = rng.choice(found)
    return in_digits(form, OWN_DIGITS[language]) if rng.random() < 0.35 else form


def identifier_cut(value: str, rng: random.Random) -> str:
    """The last digits, or all but the last two."""
    digits = value.replace("-", "")
    return rng.choice(
        [f"***{digits[-6:]}", f"…{digits[-7:]}", digits[:-2] + "**", digits[:-1] + "…"]
    )


def other_number(value: str, rng: random.Random) -> str:
    """Another number: a digit differs, one more, a tenth, a part in another context."""
    digits = re.sub(r"\D", "", value)
    place = rng.randrange(len(digits))
    changed = (
        digits[:place]
        + rng.choice([d for d in "123456789" if d != digits[place]])
        + digits[place + 1 :]
    )
    whole = value.replace(",", "").partition(".")[0].replace("-", "")
    return rng.choice(
        [changed, f"{int(changed):,}", whole + "7", "8" + whole, digits[:4], digits[-4:] + " kg",
         f"{int(digits[:3])} / 2018", f"{whole[:3]}.{whole[3:5]}", f"{int(whole) + 1:,}"]
    )  # fmt: skip


def email(rng: random.Random) -> str:
    """An address at a domain that nobody has."""
    first, second = rng.choice(LOCALS), rng.choice(SECONDS)
    return f"{first}.{second}{rng.randint(10, 99)}@{rng.choice(DOMAINS)}"


def email_form(value: str, language: str, rng: random.Random) -> str:
    """One of the usual ways to write it."""
    at, dot = AT_WORDS[language]
    local, _, domain = value.partition("@")
    return rng.choice(
        [value, value.upper(), value.replace("@", "＠"), f"{local} @ {domain}", f"mailto:{value}",
         value.replace("@", " (at) "), f"{local}[at]{domain.replace('.', '[dot]')}",
         value.replace("@", f" {at} ").replace(".", f" {dot} "), f"<{value}>", f"**{value}**",
         f"{local} at {domain}", local.replace(".", "_") + "@" + domain,
         local.replace(".", "") + "@" + domain]
    )  # fmt: skip


def other_email(value: str, language: str, rng: random.Random) -> str:
    """Another address: other figures, another name, another domain, one more letter."""
    local, _, domain = value.partition("@")
    number = int(local[-2:])
    other = next(name for name in rng.sample(LOCALS, 3) if not local.startswith(name))
    found = [
        f"{local[:-2]}{number % 89 + 11}@{domain}" if number % 89 + 11 != number else f"a{value}",
        f"{other}.{local.partition('.')[2]}@{domain}", f"{local}@other-{domain}",
        f"{local}@" + next(d for d in DOMAINS if d != domain), f"x{value}", f"{local}9@{domain}",
        f"{value}.uk", f"no.{value}", f"info@{domain}", f"@{domain}", f"{local[:-2]}@{domain}",
    ]  # fmt: skip
    form = rng.choice(found)
    at, dot = AT_WORDS[language]
    if rng.random() < 0.2:
        return form.replace("@", f" {at} ").replace(".", f" {dot} ")
    return form


def address_form(value: str, language: str, rng: random.Random) -> str:
    """Abbreviated, in another case, in lines, without the town."""
    if language == "en":
        short = value.replace("Street", "St.").replace("Road", "Rd").replace("Avenue", "Ave.")
        found = [value, short.replace("Lane", "Ln"), value.upper(), value.replace(", ", "\n"),
                 value.partition(",")[0], "No. " + value]  # fmt: skip
    elif language == "ja":
        blocks = re.sub(r"(\d+)丁目(\d+)番(\d+)号", r"\1-\2-\3", value)
        found = [value, blocks, in_digits(value, WIDE), in_digits(blocks, WIDE).replace("-", "－"),
                 re.sub(r"番(\d+)号", r"番地\1", value)]  # fmt: skip
    elif language == "th":
        found = [value, value.replace("ถนน", "ถ.").replace("ซอย", "ซ."), in_digits(value, THAI),
                 "บ้านเลขที่ " + value, value.replace("ถนน", "ถนน "),
                 value.replace("อำเภอ", "อ.")]  # fmt: skip
    else:
        found = [value, value.replace("ຖະໜົນ", "ຖ."), in_digits(value, LAO), "ເຮືອນເລກທີ " + value,
                 value.replace("ຖະໜົນ", "ຖະໜົນ "), value.replace("ເມືອງ", "ມ.")]  # fmt: skip
    return rng.choice(found)


def other_address(value: str, other: str, language: str, rng: random.Random) -> str:
    """The neighbour's house, the same number elsewhere, or only the street or the town."""
    number = re.search(r"\d+(?:/\d+)?", value)
    numbers = re.findall(r"\d+", value)
    assert number is not None  # noqa: S101 -- every street of the table has a number
    next_house = value.replace(numbers[-1], str(int(numbers[-1]) + rng.choice([2, 10, 100])))
    elsewhere = re.sub(r"\d+(?:/\d+)?", number[0], other, count=1)
    if language == "ja":
        town = re.split(r"\d", value)[0]
        return rng.choice([next_house, other, town, town + "9丁目"])
    rest = value.replace(number[0], "", 1).strip()
    town = re.split(r"[, ]", value)[-1]
    return rng.choice([next_house, elsewhere, other, rest, town])


def name_form(value: str, language: str, rng: random.Random) -> str:
    """Orders, titles, initials, capitals."""
    *given, family = value.split()
    first = " ".join(given)
    if value.isascii() or re.match("[A-Za-zÀ-ž]", value):
        plain = rng.choice([value, f"{first} {family.upper()}", value.upper(), f"{family} {first}",
                            f"{family}, {first}", f"{first[0]}. {family}", f"{family} {first[0]}.",
                            f"{first}\n{family}"])  # fmt: skip
    else:
        plain = rng.choice([value, value.replace(" ", ""), value, value.replace(" ", "　")])
    return rng.choice(["{}", *TITLES[language]]).format(plain)


def namesake(value: str, others: list[str], similar: dict[str, str], rng: random.Random) -> str:
    """Another person of the family name or the given name, or one of the two names alone."""
    parts = value.split()
    native_japanese = re.match("[\u4e00-\u9fff]", value)
    given, family = (parts[1], parts[0]) if native_japanese else (parts[0], parts[-1])
    join = "{1} {0}" if native_japanese else "{0} {1}"
    other = next(o for o in rng.sample(others, len(others)) if _same_script(o, value))
    other_parts = other.split()
    other_given = other_parts[1] if native_japanese else other_parts[0]
    other_family = other_parts[0] if native_japanese else other_parts[-1]
    found = [family, given, join.format(similar[given], family), join.format(other_given, family),
             join.format(given, other_family), other]  # fmt: skip
    if value[0].isascii() or "À" <= value[0] <= "ž":
        letter = next(c for c in "QXWKV" if c != given[0])
        found += [f"{letter}. {family}", f"{given} {family[0]}.", f"{family}, {similar[given]}"]
    return rng.choice(found)


def _same_script(one: str, other: str) -> bool:
    return ord(one[0]) // 0x180 == ord(other[0]) // 0x180 or (one[0] > "一" and other[0] > "一")


def text_form(value: str, rng: random.Random) -> str:
    """Capitals, broken lines, hyphens, marks of emphasis, accents left out."""
    found = [value, value.upper(), value.title(), f"**{value}**", f"“{value}”", f"{value}!"]
    if " " in value and value.replace(" ", "").isalpha():
        found += [value.replace(" ", "\n"), value.replace(" ", "-"), value.replace(" ", "  ")]
    return rng.choice(found)


def can_slip(value: str, kind: str) -> bool:
    """Whether a slip of the pen in it is within what the judge is said to see."""
    if re.fullmatch(r"[A-Za-z ]+", value):
        longest = max(value.split(), key=len)
        return len(value.replace(" ", "")) >= 8 and len(longest) >= (8 if kind == "name" else 6)
    return len(value.replace(" ", "")) >= 8 and bool(re.search("[็-๋์່-໌]", value))


def slip(value: str, kind: str, rng: random.Random) -> str:
    """A slip in the longest word: a letter lost, doubled, swapped or changed; or a tone lost."""
    if not re.fullmatch(r"[A-Za-z ]+", value):
        places = [m.start() for m in re.finditer("[็-๋์່-໌]", value)]
        place = rng.choice(places)
        return value[:place] + value[place + 1 :]
    word = max(value.split(), key=len)
    inner = range(1, len(word) - 1)
    made = [word[:i] + word[i + 1 :] for i in inner] + [word[: i + 1] + word[i:] for i in inner]
    made += [word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(1, len(word) - 2)]
    if kind == "text" and len(word) >= 9:
        made += [word[:i] + "aeiou"[("aeiou".index(word[i]) + 1) % 5] + word[i + 1 :]
                 for i in inner if word[i] in "aeiou"]  # fmt: skip
    changed = rng.choice([other for other in made if other != word])
    return value.replace(word, changed)
