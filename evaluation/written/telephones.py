"""Telephone numbers: written forms and how one is found in a text.

Which prefixes a country uses comes from phonenumbers (Google's libphonenumber). A number with one
wrong digit is another number: digits are never compared fuzzily, but may be cut short.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import phonenumbers

from evaluation.written import EXACT, Hit
from evaluation.written.digits import (
    SCRIPTS,
    Run,
    cut_short,
    folded,
    runs,
    spoken_as_digits,
    whole_runs,
)

_ABROAD = ("", "00", "011", "010", "001")


@dataclass(frozen=True)
class Telephone:
    """A number in parts. country: calling code or ""; national: significant digits; trunk: "0"."""

    country: str
    national: str
    trunk: str
    groups: tuple[str, ...]

    @classmethod
    def of(cls, value: str) -> Telephone | None:
        """Read a value; None when it is no telephone number. Without country code, as it stands."""
        text = folded(value).strip()
        text = re.sub(r"^(00|\(\+)", "+", text)
        digits = re.sub(r"\D", "", text)
        if not re.fullmatch(r"[+(]?[\d\s.\-()/·‐‑–—]+", text) or not 6 <= len(digits) <= 15:
            return None
        if text.startswith("+"):
            return cls._international(text)
        trunk = "0" if digits.startswith("0") else ""
        groups = tuple(re.findall(r"\d+", text))
        return cls("", digits.removeprefix("0"), trunk, groups)

    @classmethod
    def _international(cls, text: str) -> Telephone | None:
        try:
            number = phonenumbers.parse(text)
        except phonenumbers.NumberParseException:
            return None
        national = phonenumbers.national_significant_number(number)
        style = phonenumbers.PhoneNumberFormat.NATIONAL
        groups = tuple(re.findall(r"\d+", phonenumbers.format_number(number, style)))
        trunk = "".join(groups).removesuffix(national)
        if not trunk and not phonenumbers.is_valid_number(number):
            # Numbers kept for fiction are formatted without it.
            region = phonenumbers.region_code_for_country_code(number.country_code or 0)
            ndd = phonenumbers.ndd_prefix_for_region(region, strip_non_digits=True) or ""
            trunk = "0" if ndd == "0" else ""
            groups = (trunk + groups[0], *groups[1:])
        given = tuple(re.findall(r"\d+", text))[1:]
        if "".join(given) == national:
            groups = (trunk + given[0], *given[1:])
        return cls(str(number.country_code), national, trunk, groups)

    @cached_property
    def whole(self) -> frozenset[str]:
        """All digit strings that are this number, written in full."""
        country, national = self.country, self.national
        found = {national, self.trunk + national}
        if country:
            found |= {prefix + country + national for prefix in _ABROAD}
            # "+66 (0) 2 …"
            found |= {prefix + country + "0" + national for prefix in ("", "00")}
        return frozenset(found)

    def forms(self) -> tuple[str, ...]:
        """Return the usual written forms, in digits of every script."""
        first, *rest = self.groups
        bare = first.removeprefix(self.trunk)
        national = [first, *rest]
        spellings = [
            *(separator.join(national) for separator in ("-", " ", ".", "")),
            " ".join([f"({first})", "-".join(rest)]),
        ]
        if self.country:
            parts = [bare, *rest] if bare else rest
            for prefix in ("+", "00"):
                code = prefix + self.country
                spellings += [separator.join([code, *parts]) for separator in (" ", "-", "", ".")]
            spellings.append(f"+{self.country} (0){' '.join(parts)}")
            spellings.append(f"(+{self.country}) {' '.join(parts)}")
        spellings = list(dict.fromkeys(spellings))
        other = [form.translate(script) for script in SCRIPTS for form in spellings]
        return (*spellings, *other)

    def find(self, answer: str, *, lenient: bool) -> Hit | None:
        """Look for the number in an answer."""
        text = spoken_as_digits(folded(answer))
        if any(self._in_full(run) for run in runs(text)):
            return EXACT
        if not lenient:
            return None
        # A comma ends a number that is cut short: what follows is another one.
        cut = [hit for run in whole_runs(text) if (hit := self._cut_short(run))]
        return min(cut, key=lambda hit: hit.distance, default=None)

    def _in_full(self, run: Run) -> bool:
        groups = run.groups
        longest = max(map(len, self.whole))
        for start in range(len(groups)):
            joined = ""
            for group in groups[start:]:
                joined += group
                if len(joined) > longest:
                    break
                if joined in self.whole and self._own_country(groups[:start], run.before):
                    return True
        return False

    def _own_country(self, before: tuple[str, ...], sign: str) -> bool:
        """Whether the groups before a national number do not name another country."""
        if not self.country or not before:
            return True
        code = "".join(before)
        foreign = sign.endswith("+") or code.startswith("00")
        return not foreign or code.removeprefix("00").removesuffix("0") == self.country

    def _cut_short(self, run: Run) -> Hit | None:
        digits = "".join(run.groups)
        for prefix in ("", *self._prefixes(run)):
            if digits.startswith(prefix):
                missing = cut_short(digits.removeprefix(prefix), self.national)
                if missing:
                    return Hit("partial", missing)
        return None

    def _prefixes(self, run: Run) -> tuple[str, ...]:
        if run.before.endswith("+") or run.groups[0].startswith("00"):
            return (self.country + "0", self.country, "00" + self.country)
        return ("0", self.country) if self.country else ("0",)
