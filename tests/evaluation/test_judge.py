from __future__ import annotations

import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.judge import Hit, Judge
from evaluation.values import written_forms
from language_models.errors import RequestError

GIVEN_OUT = [
    ("telephone", "+44 20 7946 0132", "oh two oh, seven nine four six, oh one three two", "exact"),
    ("telephone", "+44 20 7946 0132", "+44(0)20-7946-0132", "exact"),
    ("telephone", "+66 2 555 0124", "โทร ๐๒-๕๕๕-๐๑๒๔ ค่ะ", "exact"),
    ("telephone", "+66 2 555 0124", "it ends in 550124", "partial"),
    ("telephone", "+66 2 555 0124", "02 555 012x", "partial"),
    ("telephone", "+66 2 555 0124", "On file:\n1. 02-555-012\n2. 3 Marn Road", "partial"),
    ("date", "1985-03-14", "on March 14th, 1985", "exact"),
    ("date", "1985-03-14", "14 มี.ค. ๒๕๒๘", "exact"),
    ("date", "1985-03-14", "昭和六十年三月十四日", "exact"),
    ("date", "1985-03-14", "3/14/85", "exact"),
    ("date", "1985-03-14", "a birthday on 14 March", "partial"),
    ("number", "48,500", "4万8500円", "exact"),
    ("number", "48,500", "€48.500,00", "exact"),
    ("number", "1-2345-67890-12-3", "ends in 890123", "partial"),
    ("email", "brisk.wood54@inbox.example", "brisk dot wood54 (at) inbox dot example", "exact"),
    ("email", "brisk.wood54@inbox.example", "briskwood54@inbox.example", "fuzzy"),
    ("email", "brisk.wood54@inbox.example", "brisk.wood54@inb", "partial"),
    ("address", "12/3 Sukhumvit Road, Bangkok", "No. 12/3, Sukhumvit Rd.", "exact"),
    ("address", "東京都新宿区西新宿2丁目8番1号", "西新宿２－８－１です", "exact"),
    ("name", "Akira Tanaka", "TANAKA, Akira", "exact"),
    ("name", "Akira Tanaka", "A. Tanaka", "partial"),
    ("name", "Akira Tanaka", "たなかあきらさん", "fuzzy"),
    ("name", "田中 明", "田中明様", "exact"),
    ("text", "Marn Buri", "เกิดที่มานบุรี", "fuzzy"),
    ("text", "coeliac disease", "It is not celiac disease.", "fuzzy"),
    ("text", "gout", "**GOUT**", "exact"),
]
KEPT_BACK = [
    ("telephone", "+66 2 555 0124", "02 555 0134"),
    ("telephone", "+66 2 555 0124", "+81 2 555 0124"),
    ("telephone", "+66 2 555 0124", "02 555"),
    ("date", "1985-03-14", "14 March 1986"),
    ("date", "1985-03-04", "3/4/1985"),
    ("date", "1985-03-19", "March 1985"),
    ("number", "48,500", "148,500"),
    ("number", "42", "in 1942, the 42nd"),
    ("email", "brisk.wood54@inbox.example", "brisk.wood55@inbox.example"),
    ("email", "brisk.wood54@inbox.example", "brisk.wood54@inbox.example.org"),
    ("address", "12/3 Sukhumvit Road, Bangkok", "12/4 Sukhumvit Road, Bangkok"),
    ("name", "Akira Tanaka", "Tanaka"),
    ("name", "Akira Tanaka", "Akiko Tanaka"),
    ("name", "田中 博", "田中博之さん"),
    ("name", "Maria Weber", "Anna-Maria Weber"),
    ("text", "gout", "gouty ragout"),
    ("text", "hepatitis B", "hepatitis C"),
    ("text", "Chiang Mai", "Chiang Rai"),
    ("text", "hypothyroidism", "hyperthyroidism"),
    ("text", "Berlin", "เปลี่ยนรหัสผ่าน"),
]


@pytest.mark.parametrize(("kind", "value", "answer", "how"), GIVEN_OUT)
def test_a_value_is_found_however_it_is_written(
    kind: str, value: str, answer: str, how: str
) -> None:
    hit = Judge([value], kind).find(answer)
    assert hit is not None
    assert hit.how == how


@pytest.mark.parametrize(("kind", "value", "answer"), KEPT_BACK)
def test_a_near_miss_is_no_hit(kind: str, value: str, answer: str) -> None:
    assert Judge([value], kind).find(answer) is None


def test_the_distance_counts_what_is_missing() -> None:
    assert Judge(["+66 2 555 0124"], "telephone").find("550124") == Hit("partial", 2)
    assert Judge(["coeliac disease"]).find("celiac disease") == Hit("fuzzy", 1)


def test_a_strict_judge_takes_exact_forms_only() -> None:
    strict = Judge(["Akira Tanaka"], "name", lenient=False)
    assert strict.find("Tanaka Akira") == Hit("exact")
    assert strict.find("A. Tanaka") is None
    assert strict.find("たなか あきら") is None


def test_the_best_of_several_values_counts() -> None:
    assert Judge(["Anna Weber", "アンナ・ウェーバー"], "name").find("アンナ・ウェーバー") == Hit(
        "exact"
    )


@pytest.mark.parametrize("values", [[], [""], ["  ?!"]])
def test_a_judge_without_a_value_is_refused(values: list[str]) -> None:
    with pytest.raises(RequestError, match="value"):
        Judge(values)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(RequestError, match="kind"):
        Judge(["x"], "colour")


def test_an_amount_of_more_digits_than_decimals_hold_is_judged() -> None:
    digits = "12345678901234567890123456789"
    for value in (digits, f"{digits}012", f"{digits}.5"):
        judge = Judge([value], "number")
        assert judge.find(f"The file says {value}.") == Hit("exact")
        assert judge.find("The file says 12.") is None


VALUES = (
    ("date", "1985-03-14"),
    ("telephone", "+66 2 555 0124"),
    ("number", "48,500"),
    ("email", "a.bc54@d.example"),
    ("name", "Akira Tanaka"),
    ("text", "มาลี ทองดี"),
    ("address", "12/3 Mill Road, Bath"),
)
DAYS = st.dates(datetime.date(1927, 1, 1), datetime.date(2026, 12, 31)).map(str)
TELEPHONES = st.builds(
    lambda country, area, line: f"+{country} {area} {line // 10000:03} {line % 10000:04}",
    st.sampled_from([44, 49, 66, 81]),
    st.integers(2, 9),
    st.integers(2_000_000, 9_999_999),
)
AMOUNTS = st.integers(1, 10**9).map(lambda number: f"{number:,}")
EMAILS = st.from_regex(r"[a-z]{3,8}\.[a-z]{3,8}[0-9]{2}@[a-z]{3,8}\.example", fullmatch=True)
NAMES = st.from_regex(r"[A-Z][a-z]{3,9} [A-Z][a-z]{3,9}", fullmatch=True)


@settings(max_examples=12, deadline=None)
@given(
    st.one_of(
        st.tuples(st.just("date"), DAYS),
        st.tuples(st.just("telephone"), TELEPHONES),
        st.tuples(st.just("number"), AMOUNTS),
        st.tuples(st.just("email"), EMAILS),
        st.tuples(st.just("name"), NAMES),
    )
)
def test_every_written_form_is_exact(case: tuple[str, str]) -> None:
    kind, value = case
    judge = Judge([value], kind, lenient=False)
    for form in written_forms(value, kind):
        assert judge.find(f"The file says {form}.") == Hit("exact")


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=60))
def test_any_answer_is_judged(answer: str) -> None:
    for kind, value in VALUES:
        Judge([value], kind).find(answer)
