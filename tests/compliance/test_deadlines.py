"""Vectors computed from Reg. 1182/71 Art. 3 and the laws themselves."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compliance.law import deadlines, law, laws

MONTH = {"unit": "months", "length": 1}
NINETY_DAYS = {"unit": "days", "length": 90}


@pytest.mark.parametrize(
    ("deadline", "received", "due"),
    [
        (MONTH, date(2026, 8, 31), date(2026, 9, 30)),  # no 31st
        (MONTH, date(2026, 1, 31), date(2026, 3, 2)),  # end of February is a Saturday
        (MONTH, date(2026, 3, 5), date(2026, 4, 6)),  # Easter Sunday; Monday is not loaded
        (MONTH, date(2024, 1, 31), date(2024, 2, 29)),  # leap year
        (NINETY_DAYS, date(2026, 1, 5), date(2026, 4, 6)),  # Sunday
    ],
)
def test_due_date_vectors(deadline: dict, received: date, due: date) -> None:
    assert deadlines.due_date(deadline, received) == due


def test_due_date_rolls_over_holidays() -> None:
    easter_monday = date(2026, 4, 6)
    due = deadlines.due_date(MONTH, date(2026, 3, 5), holidays={easter_monday})
    assert due == date(2026, 4, 7)


def test_due_date_refuses_unknown_unit() -> None:
    with pytest.raises(ValueError, match="Unknown unit"):
        deadlines.due_date({"unit": "moons", "length": 1}, date(2026, 1, 1))


@given(st.dates(date(2020, 1, 1), date(2040, 1, 1)))
def test_due_date_is_a_working_day_after_receipt(received: date) -> None:
    for pack in laws().values():
        due = deadlines.due_date(pack.deadline, received)
        assert due > received
        assert due.weekday() < 5


def test_packs_name_their_articles_and_are_not_signed_off() -> None:
    for pack in laws().values():
        assert pack.reviewed is False
        assert pack.sources
        assert all(ground.article and ground.text for ground in pack.refusal_grounds)


def test_law_unknown_id_names_those_that_exist() -> None:
    with pytest.raises(KeyError, match="gdpr"):
        law("lex-nulla")
