from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import Person
from evaluation.judge import Judge
from evaluation.prompts import prompts
from evaluation.twins import exchange, foreign_values, shares_name, twins
from evaluation.values import kind_of, written_forms
from language_models import RequestError
from language_models.matching import contains, normalise

GIVEN = ("Malee", "Anna", "Somchai", "Yumiko", "Lukas", "Grace", "Vilay", "Jonas")
FAMILY = ("Tanaka", "Sato", "Saito", "Rungsiri", "Weber", "Hill", "Okada", "Bounmy")
THAI = ("มาลี", "อันนา", "สมชาย", "ยูมิโกะ", "ลูกัส", "เกรซ", "วิไล", "โยนัส")
CITIES = ("Kyoto", "Kyoto City", "KYOTO", "Bangkok", "Vientiane", "Marn")
PHONES = ("+66 2 555 0124", "02 555 0124", "+66 2 555 0199", "+81 3 555 0101")


def somebody(number: int, rng: random.Random) -> Person:
    first, last = rng.randrange(len(GIVEN)), rng.randrange(len(FAMILY))
    facts = {"birth_city": rng.choice(CITIES), "telephone": rng.choice(PHONES)}
    return Person(
        f"c-{number}", f"{GIVEN[first]} {FAMILY[last]}", facts, "th", {"th": f"{THAI[first]} ก"}
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_a_twin_has_nothing_of_the_person(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 -- repeatable
    subject, *others = (somebody(number, rng) for number in range(24))

    try:
        made = twins(subject, others, 3, seed=seed)
    except RequestError:
        return  # chance made too few other names or values

    assert len({normalise(one.name) for one in made}) == 3
    for twin in made:
        assert not shares_name(twin, subject)
        assert normalise(twin.name) not in {normalise(one.name) for one in others}
        assert twin.facts.keys() == subject.facts.keys()
        for fact, own in subject.facts.items():
            assert twin.facts[fact] in {one.facts[fact] for one in others}
            assert Judge([own], kind_of(fact, own), lenient=False).find(twin.facts[fact]) is None


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 100))
def test_a_question_about_a_twin_stands_at_the_same_place(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 -- repeatable
    subject = Person("s", "Malee Tanaka", {"employer": "Marn Rail"}, "th", {"th": "มาลี ทานากะ"})
    others = [
        Person(f"c-{n}", f"{a} {b}", {"employer": f"{b} Works"})
        for n, (a, b) in enumerate(zip(GIVEN[1:], rng.sample(FAMILY[1:], 7), strict=True))
    ]
    (twin,) = twins(subject, others, 1, seed=seed)

    own, other = (
        prompts(one, "employer", relation="employer", languages=["en", "th"], examples=others)
        for one in (subject, twin)
    )

    for one, two in zip(own, other, strict=True):
        assert (one.form, one.language, one.asks) == (two.form, two.language, two.asks)
        assert len(one.turns) == len(two.turns)
        assert not any(contains(turn, subject.name) for turn in two.turns)
        assert two.form != "reversed" or any(twin.facts["employer"] in turn for turn in two.turns)


def test_a_text_about_a_twin_holds_no_form_of_the_persons_name_and_values() -> None:
    facts = {"birth_city": "Kyoto", "telephone": "+66 2 555 0124", "born": "1985-03-14", "x": ""}
    subject = Person(
        "s", "Malee Tanaka", facts, "th", {"th": "มาลี ทานากะ"}, {"birth_city": ("เกียวโต",)}
    )
    facts = {"birth_city": "Marn", "telephone": "+81 3 555 0101", "born": "1990-01-02"}
    twin = Person("t", "Anna Sato", facts)
    as_twin = exchange(subject, twin)

    assert as_twin("Malee Tanaka was born in Kyoto; Malee's number is 02-555-0124.") == (
        "Anna Sato was born in Marn; Anna's number is +81 3 555 0101."
    )
    assert as_twin("TANAKA, Malee and MALEE TANAKA") == "Anna Sato and Anna Sato"
    assert as_twin("มาลี ทานากะ เกิดที่เกียวโต") == "Anna Sato เกิดที่Marn"
    assert as_twin("Kyotos and Maleena stay") == "Kyotos and Maleena stay"
    for fact, value in subject.facts.items():
        for form in written_forms(value, kind_of(fact, value)) if value else ():
            assert as_twin(f"It says {form}.") == f"It says {twin.facts[fact]}."


def test_values_are_exchanged_at_once() -> None:
    # A twin's value is another of the subject's, and one value is a part of another.
    subject = Person("s", "Malee Tanaka", {"home": "Marn", "work": "Marn Rail", "born": "Kyoto"})
    twin = Person("t", "Anna Sato", {"home": "Kyoto", "work": "Sael Tin", "born": "Marn"})

    assert exchange(subject, twin)("Marn, Marn Rail, Kyoto") == "Kyoto, Sael Tin, Marn"


def test_values_of_others_leave_out_the_own_one_however_written() -> None:
    subject = Person("s", "A B", {"phone": "+66 2 555 0124", "city": "Kyoto"},
                     written={"city": ("京都",)})  # fmt: skip
    others = [
        Person(str(n), "C D", {"phone": phone, "city": city})
        for n, (phone, city) in enumerate(
            [("02-555-0124", "kyoto"), ("+66 2 555 0199", "京都市"), ("-", "Marn"), ("", "")]
        )
    ]

    assert foreign_values(subject, others, "phone") == ["+66 2 555 0199"]
    assert foreign_values(subject, others, "city") == ["Marn"]


def test_too_few_other_people_are_refused_without_a_name() -> None:
    subject = Person("s", "Malee Tanaka", {"city": "Kyoto"})
    few = [Person("a", "Anna Sato", {"city": "Marn"}), Person("b", "Grace Hill", {"city": "Kyoto"})]

    with pytest.raises(RequestError, match="of 3 fictional twins") as caught:
        twins(subject, few, 3)
    assert "Malee" not in str(caught.value)
    with pytest.raises(RequestError, match="No other person has a value") as caught:
        twins(subject, [Person(one.id, one.name, {"city": "kyoto"}) for one in few], 1)
    assert "yoto" not in str(caught.value)
