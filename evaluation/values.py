"""What kind a value is, and every usual form in which it is written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from evaluation.written.addresses import Address
from evaluation.written.dates import Date
from evaluation.written.emails import Email
from evaluation.written.names import Name
from evaluation.written.numbers import Number
from evaluation.written.spelling import Text
from evaluation.written.telephones import Telephone
from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

KINDS = ("text", "name", "telephone", "date", "number", "email", "address")

_READERS = {
    "telephone": Telephone.of,
    "date": Date.of,
    "number": Number.of,
    "email": Email.of,
    "address": Address.of,
    "name": Name.of,
}
# Parts of a fact's name that tell its kind, in the four languages.
_TOLD = {
    "telephone": ("phone", "mobile", "fax", "tel", "โทร", "มือถือ", "電話", "携帯", "ໂທ"),
    "address": ("address", "street", "residence", "ที่อยู่", "住所", "ທີ່ຢູ່"),
    "name": ("name", "spouse", "husband", "wife", "mother", "father", "partner", "child", "doctor",
             "manager", "colleague", "ชื่อ", "氏名", "名前", "ຊື່"),
}  # fmt: skip
_NOT_A_PERSON = ("company", "employer", "user", "street", "city", "file", "brand", "product")


def kind_of(fact: str, value: str) -> str:
    """Return the kind of a value, one of KINDS, by how it is written and by its fact's name."""
    name = fact.casefold()
    told = [kind for kind, parts in _TOLD.items() if any(part in name for part in parts)]
    if Email.of(value):
        return "email"
    if Date.of(value):
        return "date"
    if ("telephone" in told or re.match(r"\s*[(]?\+", value)) and Telephone.of(value):
        return "telephone"
    if Number.of(value):
        return "number"
    if "address" in told and "email" not in name and Address.of(value):
        return "address"
    person = "name" in told and not any(part in name for part in _NOT_A_PERSON)
    return "name" if person and Name.of(value) else "text"


def written_forms(value: str, kind: str = "text", extra: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the value, `extra`, and the usual written forms of each, without repetition.

    A judge recognises more than these: prefixes and separators in any mixture, slips, sounds.
    Raises RequestError for an unknown kind or an empty value.
    """
    found: list[str] = []
    for given in (value, *extra):
        found.append(" ".join(given.split()))
        read = reader(given, kind)
        if not isinstance(read, Text):
            found += read.forms()
    return tuple(dict.fromkeys(found))


def readable(value: str) -> bool:
    """Whether a value has a letter or a digit, so that an answer can hold it."""
    return any(one.isalnum() for one in value)


def reader(value: str, kind: str) -> Telephone | Date | Number | Email | Address | Name | Text:
    """Read a value as its kind; a value that is not written as its kind is read as a text."""
    if kind not in KINDS:
        raise RequestError(f"There is no kind of value {kind!r}. Choose one of {', '.join(KINDS)}.")
    text = Text.of(value, name=kind == "name")
    if not text.spellings:
        raise RequestError("A value has no letter and no digit, so an answer cannot hold it.")
    read = _READERS[kind](value) if kind in _READERS else None
    return read or text
