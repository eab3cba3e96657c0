from __future__ import annotations

import pytest

from evaluation.values import kind_of, written_forms
from language_models.errors import RequestError


@pytest.mark.parametrize(
    ("fact", "value", "kind"),
    [
        ("telephone", "+66 2 555 0124", "telephone"),
        ("mobile", "081 234 5678", "telephone"),
        ("เบอร์โทร", "๐๘๑-๒๓๔-๕๖๗๘", "telephone"),
        ("contact", "+44 20 7946 0132", "telephone"),
        ("birth_date", "1985-03-14", "date"),
        ("วันเกิด", "14 มีนาคม 2528", "date"),
        ("salary", "48,500", "number"),
        ("account", "123-45678-9012", "number"),
        ("email", "a.b@mail.example", "email"),
        ("home_address", "12/3 Mill Road, Bath", "address"),
        ("spouse", "Anna Weber", "name"),
        ("company_name", "Saffron Freight", "text"),
        ("diagnosis", "type 2 diabetes", "text"),
        ("birth_city", "Marn Buri", "text"),
    ],
)
def test_the_kind_follows_from_the_value_and_the_fact(fact: str, value: str, kind: str) -> None:
    assert kind_of(fact, value) == kind


def test_a_telephone_is_written_nationally_and_internationally() -> None:
    forms = written_forms("+66 2 555 0124", "telephone")
    assert {
        "+66 2 555 0124",
        "02-555-0124",
        "0066 2 555 0124",
        "๐๒-๕๕๕-๐๑๒๔",
        "+6625550124",
    } <= set(forms)


def test_a_date_is_written_in_four_languages_and_three_eras() -> None:
    forms = written_forms("1985-03-14", "date")
    assert {
        "March 14, 1985", "14/03/1985", "14 มีนาคม 2528", "๑๔ มีนาคม ๒๕๒๘", "14 ມີນາ 1985",
        "昭和60年3月14日", "1985年3月14日",
    } <= set(forms)  # fmt: skip


def test_known_forms_come_along_with_their_own_written_forms() -> None:
    forms = written_forms("Akira Tanaka", "name", ["田中 明"])
    assert {"Akira Tanaka", "Tanaka, Akira", "田中 明", "田中明"} <= set(forms)


def test_a_value_not_written_as_its_kind_is_a_text() -> None:
    assert written_forms("unknown", "telephone") == ("unknown",)


def test_an_empty_value_is_refused_without_showing_it() -> None:
    with pytest.raises(RequestError, match="no letter"):
        written_forms("--", "text")
