"""Amounts and identifiers in digits: written forms and how one is found in a text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from evaluation.written import EXACT, Hit
from evaluation.written.digits import SCRIPTS, cut_short, folded, spoken_as_digits, whole_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

# An identifier this long may be recognised by a part of it; an amount may not.
IDENTIFIER_DIGITS = 8

_NUMBER = re.compile(
    r"(?<![\d.,A-Za-z])[-−]?\d+(?:[.,'’ \u202f]\d+)*(?:\s?[万億兆]\d*)?(?!\d|st\b|nd\b|rd\b|th\b)"
)
_CURRENCY = re.compile(r"\b(?:USD|EUR|GBP|THB|JPY|LAK|US|Rs)(?=\d)")
_JAPANESE = {"万": 10**4, "億": 10**8, "兆": 10**12}


@dataclass(frozen=True)
class Number:
    """A value in digits. meant: the amounts it can be; digits: all of its digits in order."""

    meant: frozenset[Decimal]
    digits: str
    value: str

    @classmethod
    def of(cls, value: str) -> Number | None:
        """Read a value that is one number and nothing else; None when it is not."""
        text = folded(value).strip()
        if not re.fullmatch(r"[-−]?\d[\d.,'’ \u202f\-/]*", text):
            return None
        digits = re.sub(r"\D", "", text)
        # "1-2345" is an identifier, and so is what begins with a nought.
        plain = re.fullmatch(r"[-−]?\d+(?:[.,'’ \u202f]\d+)*", text)
        amounts = _amounts(text) if plain and not re.match(r"0\d", text) else set()
        if len(amounts) > 1:
            # "1,234" alone is ambiguous; the English reading is the usual one of stored values.
            amounts = {_english(text)}
        return cls(frozenset(amounts), digits, text)

    def forms(self) -> tuple[str, ...]:
        """Return the usual written forms, in digits of every script."""
        spellings = [self.value]
        for amount in self.meant:
            whole, _, part = f"{amount:,f}".partition(".")
            for group, point in ((",", "."), ("", "."), (".", ","), (" ", ","), ("", ",")):
                spellings.append(whole.replace(",", group) + (point + part if part else ""))
        if len(self.digits) >= IDENTIFIER_DIGITS and not self.meant:
            spellings.append(self.digits)
        spellings = list(dict.fromkeys(spellings))
        return (*spellings, *(form.translate(script) for script in SCRIPTS for form in spellings))

    def find(self, answer: str, *, lenient: bool) -> Hit | None:
        """Look for the number in an answer."""
        text = folded(answer)
        if any(self.meant & amounts for amounts in _all_amounts(text)):
            return EXACT
        if self.meant and len(self.digits) < IDENTIFIER_DIGITS:
            return None
        # By no remainder: that of an amount of 29 digits is beyond the precision of Decimal.
        if self.meant and any(amount != amount.to_integral_value() for amount in self.meant):
            return None
        return self._as_identifier(spoken_as_digits(text), lenient=lenient)

    def _as_identifier(self, text: str, *, lenient: bool) -> Hit | None:
        shortened = []
        for run in whole_runs(text):
            if self._in_full(run.groups):
                return EXACT
            digits = "".join(run.groups)
            missing = cut_short(digits, self.digits)
            if missing and len(self.digits) >= IDENTIFIER_DIGITS:
                shortened.append(Hit("partial", missing))
        if not lenient:
            return None
        return min(shortened, key=lambda hit: hit.distance, default=None)

    def _in_full(self, groups: tuple[str, ...]) -> bool:
        for start in range(len(groups)):
            joined = ""
            for group in groups[start:]:
                joined += group
                if joined == self.digits:
                    return True
                if len(joined) > len(self.digits):
                    break
        return False


def _all_amounts(text: str) -> Iterator[set[Decimal]]:
    # Scripts without spaces set none before digits either.
    apart = re.sub(
        r"(?<=[\u0e00-\u0eff\u3040-\u9fff])(?<![万億兆])(?=\d)", " ", _CURRENCY.sub(" ", text)
    )
    for match in _NUMBER.finditer(apart):
        if amounts := _amounts(match[0]):
            yield amounts
        else:
            # "in 2021 48,500": two numbers, not one with a space between its groups.
            yield from (_amounts(part) for part in match[0].split())


def _english(text: str) -> Decimal:
    return Decimal(re.sub(r"[,'’ \u202f]", "", text).replace("−", "-"))


def _amounts(text: str) -> set[Decimal]:
    """Return what a written number can mean: "1.234" is 1.234 or 1234."""
    text = text.replace("−", "-").strip()
    for sign, factor in _JAPANESE.items():
        if sign in text:
            head, _, rest = text.partition(sign)
            tail = int(rest) if rest else 0
            return {amount * factor + tail for amount in _amounts(head)}
    found: set[Decimal] = set()
    for group, point in ((",", "."), (".", ","), ("'", "."), ("’", "."), (" ", ","), (" ", ".")):
        grouped = rf"-?\d{{1,3}}(?:{re.escape(group)}\d{{2,3}})*{re.escape(group)}\d{{3}}"
        pattern = rf"(?:{grouped}|-?\d+)(?:{re.escape(point)}\d+)?"
        if re.fullmatch(pattern, text.replace("\u202f", " ")):
            plain = text.replace("\u202f", " ").replace(group, "").replace(point, ".")
            found.add(Decimal(plain))
    return found
