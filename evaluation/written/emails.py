"""E-mail addresses: written forms and how one is found in a text.

An address with one other character is another address: only separators may differ. Cut short it
still counts when the whole local part is there without another domain behind it.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from evaluation.written import EXACT, Hit
from evaluation.written.digits import FULL_WIDTH, folded

_AT = r"\(at\)|\[at\]|\{at\}|<at>|(?<=\s)at(?=\s)|แอท|แอ็ท|แอ็ต|แอต|アットマーク|アット|ແອັດ|ແອດ"
_DOT = r"\(dot\)|\[dot\]|\{dot\}|<dot>|(?<=\s)dot(?=\s)|ดอท|ดอต|จุด|ドット|点|ດອດ|ຈຸດ"
_SPACED_AT = re.compile(rf"\s*(?:@|{_AT})\s*", re.IGNORECASE)
_SPACED_DOT = re.compile(rf"\s*(?:{_DOT})\s*", re.IGNORECASE)
# "name . surname": a space on both sides, unlike the end of a sentence.
_LONE_DOT = re.compile(r"(?<=[\w@])\s+\.\s*(?=[a-z0-9])")
_CHARACTER = "a-z0-9_%+-"
LOCAL_AT_LEAST = 8


@dataclass(frozen=True)
class Email:
    """An address in its two parts, lower case."""

    local: str
    domain: str

    @classmethod
    def of(cls, value: str) -> Email | None:
        """Read a value; None when it is no address."""
        match = re.fullmatch(r"([^\s@]+)@([^\s@]+\.[^\s@.]+)", folded(value).strip().casefold())
        return cls(match[1], match[2]) if match else None

    def forms(self) -> tuple[str, ...]:
        """Return the usual written forms."""
        plain = f"{self.local}@{self.domain}"
        spelled = plain.replace(".", " dot ").replace("@", " at ")
        bracketed = plain.replace(".", " (dot) ").replace("@", " (at) ")
        square = plain.replace("@", "[at]").replace(".", "[dot]")
        full = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in plain)
        found = [plain, plain.replace("@", " @ "), plain.replace("@", "＠"), plain.upper(), full]
        found += [
            spelled,
            bracketed,
            square,
            plain.replace("@", " at "),
            plain.replace("@", "(at)"),
        ]
        found += [plain.translate(FULL_WIDTH)]
        for at, dot in (("แอท", "จุด"), ("アット", "ドット"), ("ແອັດ", "ຈຸດ")):
            found.append(plain.replace(".", f" {dot} ").replace("@", f" {at} "))
        return tuple(dict.fromkeys(found))

    def find(self, answer: str, *, lenient: bool) -> Hit | None:
        """Look for the address in an answer."""
        text = _plain(answer)
        local, domain = re.escape(self.local), re.escape(self.domain)
        before, after = rf"(?<![{_CHARACTER}])(?<![{_CHARACTER}]\.)", rf"(?!\.?[{_CHARACTER}])"
        if re.search(rf"{before}{local}@{domain}{after}", text):
            return EXACT
        if not lenient:
            return None
        loose = r"[._-]?".join(re.escape(c) for c in re.sub(r"[._-]", "", self.local))
        if match := re.search(rf"{before}({loose})@{domain}{after}", text):
            return Hit("fuzzy", max(1, abs(len(match[1]) - len(self.local))))
        return self._cut_short(text, before, local)

    def _cut_short(self, text: str, before: str, local: str) -> Hit | None:
        if len(self.local) < LOCAL_AT_LEAST or self.local.isalpha():
            return None
        match = re.search(rf"{before}{local}(?![{_CHARACTER}])(?!\.[{_CHARACTER}])", text)
        if not match:
            return None
        rest = text[match.end() :]
        if not rest.startswith("@"):
            return Hit("partial", len(self.domain) + 1)
        # Cut in the middle of the domain, by the end of the answer and not by another domain.
        shown = rest[1:].strip()
        if self.domain.startswith(shown):
            return Hit("partial", len(self.domain) - len(shown))
        return None


def _plain(answer: str) -> str:
    """Return the answer with "at" and "dot" as signs and without the spaces around them."""
    text = unicodedata.normalize("NFKC", folded(answer)).casefold().replace("*", "")
    text = re.sub(r"\s+", " ", text)
    text = _SPACED_DOT.sub(".", text)
    return _LONE_DOT.sub(".", _SPACED_AT.sub("@", text))
