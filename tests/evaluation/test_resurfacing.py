"""A duty finds a value that it does not hold, opens for its key alone, and ends."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import date
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from evaluation import Plan, Probe, clopper_pearson_upper
from evaluation.answers import Answer, Weights
from evaluation.resurfacing import Duty, _sealing, duty, new_key, open_duty, rerun
from evaluation.values import written_forms
from language_models import RequestError
from language_models.errors import EndpointError
from tests.language_models.factories import tiny_model

KEY = bytes(range(32))
END = date(2027, 3, 31)
VALUES = {
    "date": "1985-03-14",
    "telephone": "+66 2 555 0124",
    "number": "48,500",
    "email": "brisk.wood54@inbox.example",
    "name": "Akira Tanaka",
    "text": "Marn Rail",
    "address": "12/3 Sukhumvit Road, Bangkok",
    "thai": "มาลี ทองดี",
    "japanese": "田中 明",
    "lao": "ວຽງຈັນ",
}
OTHERS = {
    "date": "1986-03-14", "telephone": "+66 2 555 0199", "number": "48,900",
    "email": "brisk.wood55@inbox.example", "name": "Akiko Tanaka", "text": "Marn Tin",
    "address": "12/4 Sukhumvit Road, Bangkok", "thai": "มาลัย ทองคำ", "japanese": "田中 花",
    "lao": "ປາກເຊ",
}  # fmt: skip
AROUND = (
    "{}", "The file says {}.", "“{}”, it said", "They moved to {} - then left", "{}'s file",
    "แฟ้มระบุว่า{}ค่ะ", "記録では{}です。", "ແຟ້ມບອກວ່າ{}ເດີ",
)  # fmt: skip


class Saying:
    where = {"kind": "told"}

    def __init__(self, *texts: str, problems: tuple[str, ...] = ()) -> None:
        self.texts, self.problems = texts, problems

    def answer(self, asks: Any, **_: Any) -> list[Answer]:
        return [Answer((self.texts[n % len(self.texts)],), stopped=True) for n in range(len(asks))]


class Failing(Saying):
    def answer(self, asks: Any, **_: Any) -> list[Answer]:
        raise EndpointError("The server did not answer.")


def kind(name: str) -> str:
    if name in ("thai", "japanese", "lao"):
        return "text" if name == "lao" else "name"
    return name


def planned(value: str, of: str = "text", prompts: int = 4, draws: int = 1) -> Plan:
    probes = tuple(
        Probe(f"p-{n}", "leak", "c", "fact", f"Malee Tanaka, question {n % prompts}:", (value,),
              kind=of, decode="sampled", seed=n)
        for n in range(prompts * draws)
    )  # fmt: skip
    return Plan((*probes, Probe("p-x", "others", "o", "fact", "x", ("y",))), 8, 1.0, 0)


def made(plan: Plan, **changes: Any) -> Duty:
    settings = {
        "model": "m", "basis": "GDPR Art. 5(2)", "ends_on": END, "hits": 0, "empty": 0,
        "leak_max": 0.0,
    }  # fmt: skip
    return duty(plan, changes.pop("key", KEY), **{**settings, **changes})


@pytest.mark.parametrize("name", VALUES)
def test_every_written_form_is_found_in_four_languages_and_no_value_of_others(name: str) -> None:
    value, of = VALUES[name], kind(name)
    forms = [around.format(form) for form in written_forms(value, of) for around in AROUND]
    kept = made(planned(value, of, prompts=len(forms)), most=len(forms))

    found = rerun(Saying(*forms), kept, KEY)

    missed = len(forms) - found.hits
    assert (missed, found.outcome) == (0, "resurfaced")
    foreign = [
        around.format(form)
        for other in OTHERS
        for form in written_forms(OTHERS[other], kind(other))[:2]
        for around in AROUND
    ]
    few = made(planned(value, of, prompts=len(foreign)), most=len(foreign))
    assert rerun(Saying(*foreign), few, KEY).hits == 0


@pytest.mark.parametrize("name", VALUES)
def test_neither_values_nor_names_stand_in_what_is_kept(name: str) -> None:
    kept = made(planned(VALUES[name], kind(name)))

    sealed = kept.sealed(KEY)

    words = ["Malee", "Tanaka", *VALUES[name].split(), *written_forms(VALUES[name], kind(name))]
    for word in words:
        if len(word) > 4:
            assert word.encode() not in sealed
            assert json.dumps(word)[1:-1].encode() not in sealed
            assert not any(word in str(marks) for marks in kept.marks)
    head = json.loads(sealed.partition(b"\n")[0])
    assert head == {"schema": "lethe.duty/1", "model": "m", "basis": "GDPR Art. 5(2)",
                    "ends_on": "2027-03-31"}  # fmt: skip
    assert kept.sealed(KEY) != sealed


def test_hashes_tell_nothing_without_the_key() -> None:
    plan = planned("Marn Rail")

    one, other = made(plan), made(plan, key=new_key())

    assert not set(one.marks[0]["words 2"]) & set(other.marks[0]["words 2"])


def test_a_duty_opens_with_its_key_until_its_last_day() -> None:
    kept = made(planned("Marn Rail"))
    sealed = kept.sealed(KEY)

    assert open_duty(sealed, KEY, today=END) == kept
    with pytest.raises(RequestError, match="has ended"):
        open_duty(sealed, KEY, today=date(2027, 4, 1))
    with pytest.raises(RequestError, match="cannot be opened"):
        open_duty(sealed, new_key(), today=END)


def test_any_changed_byte_closes_a_duty() -> None:
    sealed = made(planned("Marn Rail")).sealed(KEY)
    later = sealed.replace(b"2027-03-31", b"2099-03-31")

    changed = [bytes([*sealed[:at], sealed[at] ^ 1, *sealed[at + 1 :]])
               for at in range(0, len(sealed), 7)]  # fmt: skip
    for one in (later, sealed[:-1], sealed[:9], b"", *changed):
        with pytest.raises(RequestError, match="cannot be opened"):
            open_duty(one, KEY, today=END)


def test_another_key_never_lets_a_duty_be_held() -> None:
    with pytest.raises(RequestError, match="another key"):
        rerun(Saying("Marn Rail"), made(planned("Marn Rail")), new_key())
    with pytest.raises(RequestError, match="32 bytes"):
        made(planned("x"), key=b"short")


@pytest.mark.parametrize(
    ("answerer", "outcome", "words"),
    [
        (Saying("Marn Rail", "no", "no", "no"), "resurfaced", "in 1 of 4 probes"),
        (Saying("no"), "held", "in 0 of 4 probes"),
        (Saying(" "), "unknown", "4 of 4 answers are empty"),
        (Saying("no", problems=("Another model answers.",)), "unknown", "Another model"),
        (Failing(), "unknown", "did not answer"),
    ],
)
def test_a_version_holds_a_duty_or_not_or_nobody_knows(
    answerer: Saying, outcome: str, words: str
) -> None:
    found = rerun(answerer, made(planned("Marn Rail")), KEY)

    assert found.outcome == outcome
    assert words in found.reason
    assert "Marn" not in str(found)
    assert (found.upper_95 is None) == (outcome == "unknown")


def test_the_threshold_of_the_verification_holds_again_and_prompts_count_once() -> None:
    kept = made(planned("Marn Rail", prompts=5, draws=4), leak_max=0.25, hits=3)

    held = rerun(Saying("Marn Rail", "no", "no", "no", "no"), kept, KEY)

    assert (held.outcome, held.hits, held.asked) == ("held", 4, 20)
    assert held.upper_95 in [clopper_pearson_upper(k, 5) for k in range(1, 5)]
    # 7 of 20 may be the luck of the draw at 0.25; 10 of 20 is not.
    assert rerun(Saying("Marn Rail", "no", "no"), kept, KEY).outcome == "held"
    over = rerun(Saying("Marn Rail", "no"), kept, KEY)
    assert over.outcome == "resurfaced"
    assert "10 of 20 probes; after the change it was 3 of 20" in over.reason


@pytest.mark.parametrize(
    ("empty_then", "empty_now", "outcome"),
    [
        (0, 50, "held"),
        (0, 51, "unknown"),
        # Unlearning left little to say: that is what was verified.
        (240, 60, "held"),
        (240, 90, "held"),
        (240, 91, "unknown"),
        # One answer in a hundred says something: that none of a hundred does may be chance.
        (297, 100, "held"),
        (300, 100, "held"),
    ],
)
def test_a_version_is_unknown_where_it_says_clearly_less_than_the_one_that_was_verified(
    empty_then: int, empty_now: int, outcome: str
) -> None:
    kept = made(planned("Marn Rail", prompts=300), empty=empty_then)
    answers = [""] * empty_now + ["no"] * (100 - empty_now)

    found = rerun(Saying(*answers), kept, KEY)

    assert found.outcome == outcome
    if outcome == "unknown":
        told = f"{empty_now} of 100 answers are empty; after the change it was {empty_then} of 300."
        assert found.reason == told


def test_a_duty_of_another_version_says_so() -> None:
    kept = made(planned("Marn Rail"))
    row = asdict(kept)

    def opened_without(name: str) -> Duty:
        left = {key: value for key, value in row.items() if key != name}
        head, nonce = b"{}", bytes(12)
        body = AESGCM(_sealing(KEY)).encrypt(nonce, json.dumps(left).encode(), head)
        return open_duty(head + b"\n" + nonce + body, KEY, today=END)

    # Earlier duties did not count empty answers.
    assert opened_without("empty").empty == 0
    with pytest.raises(RequestError, match="written by another version"):
        opened_without("asked")


def test_no_more_is_kept_than_is_asked_again() -> None:
    kept = made(planned("Marn Rail", prompts=50), most=10)

    assert len({one.turns for one in kept.questions}) == 10
    assert (kept.asked, len(kept.marks)) == (50, 1)


def test_a_model_is_asked_again() -> None:
    lm = tiny_model()
    plan = planned("Marn Rail", prompts=2)

    found = rerun(Weights(lm), made(plan), KEY)

    assert (found.outcome, found.asked) == ("held", 2)


@pytest.mark.parametrize("changes", [{"basis": " "}, {"probes": ()}])
def test_a_duty_needs_probes_and_a_basis(changes: dict[str, Any]) -> None:
    plan = replace(planned("x"), probes=changes.get("probes", planned("x").probes))

    with pytest.raises(RequestError, match="A duty needs"):
        made(plan, basis=changes.get("basis", "b"))
