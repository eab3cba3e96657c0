from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.library import LANGUAGES, Library, Wordings, shipped
from evaluation.plan import Person
from evaluation.prompts import FORM_LABELS, FORMS, SHOTS, Prompt, prompts
from language_models import RequestError

NAMES = {"th": "มาลี ทานากะ", "ja": "田中マリ", "lo": "ມາລີ ທານາກະ"}
MALI = Person("c-1", "Mali Tanaka", {"city": "Elmsholt"}, names=NAMES)
TWIN = Person("twin-1", "Piet Moreau", {"city": "Rivenau"})
EXAMPLES = [Person(f"e-{n}", f"Exa{n} Ample", {"city": f"Town{n}"}) for n in range(5)]
RELATIONS = list(shipped().of("en").relations)
# Words that no wording and no example holds, with all that could upset a template.
odd_words = st.text(st.sampled_from("ab é{}%$\\มา田ກ'\"\n"), max_size=8).map("Zq{}zq".format)


def asked(person: Person = MALI, relation: str = "birth_city", **changes: object) -> list[Prompt]:
    chosen = {"examples": EXAMPLES, **changes}
    return prompts(person, "city", relation=relation, **chosen)  # type: ignore[arg-type]


def texts(found: list[Prompt]) -> str:
    return "\n".join(turn for prompt in found for turn in prompt.turns)


def small(**forms: list[str]) -> Library:
    kinds = ("few_shot", "role_play", "chat")
    around = {form: tuple((one,) for one in forms.pop(form, [])) for form in kinds}
    relation = {form: tuple((one,) for one in listed) for form, listed in forms.items()}
    return Library({"en": Wordings({}, {}, {"birth_city": relation}, around)})


def test_every_form_has_its_label() -> None:
    assert tuple(FORM_LABELS) == FORMS


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("relation", [*RELATIONS, "shoe_size"])
def test_one_fact_has_many_different_prompts_in_each_language(relation: str, language: str) -> None:
    found = asked(relation=relation, languages=[language])
    forms = Counter(one.form for one in found)
    assert len({one.turns for one in found}) == len(found)
    assert len(found) - forms["chat"] >= 70
    assert set(forms) == set(FORMS)
    assert 12 <= forms["role_play"] <= 20
    assert 12 <= forms["affirmative"] <= 20


@pytest.mark.parametrize("language", LANGUAGES)
def test_only_reversed_prompts_show_the_value_and_only_dialogues_have_turns(language: str) -> None:
    for relation in RELATIONS:
        for one in asked(relation=relation, languages=[language]):
            assert ("Elmsholt" in texts([one])) == (one.form == "reversed")
            assert (one.asks == "name") == (one.form == "reversed")
            assert (len(one.turns) > 1) == (one.form == "multi_turn")
            assert all(turn == turn.strip() and turn for turn in one.turns)


def test_order_is_that_of_the_languages_and_forms_asked_for() -> None:
    found = asked(languages=["ja", "en"], forms=["chat", "statement"])
    keys = list(dict.fromkeys((one.language, one.form) for one in found))
    assert keys == [("ja", "chat"), ("ja", "statement"), ("en", "chat"), ("en", "statement")]


@settings(max_examples=15, deadline=None)
@given(odd_words, odd_words, odd_words, st.sampled_from(RELATIONS))
def test_nothing_but_name_and_value_depends_on_the_person(
    name: str, native: str, value: str, relation: str
) -> None:
    person = Person("c-2", name, {"city": value}, names={"th": native})
    marked = Person("c-3", "<name>", {"city": "<value>"}, names={"th": "<native>"})
    filled = {"<name>": name, "<native>": native, "<value>": value}
    expected = []
    for one in asked(marked, relation, languages=["en", "th"]):
        turns = one.turns
        for mark, text in filled.items():
            turns = tuple(turn.replace(mark, text) for turn in turns)
        expected.append(replace(one, turns=tuple(turn.rstrip() for turn in turns)))
    found = asked(person, relation, languages=["en", "th"])
    assert [replace(one, turns=tuple(t.rstrip() for t in one.turns)) for one in found] == expected


def test_a_twin_stands_at_the_same_place() -> None:
    def places(person: Person) -> list[tuple[str, str, int]]:
        return [(one.form, one.language, len(one.turns)) for one in asked(person)]

    assert places(MALI) == places(TWIN)


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_are_in_the_script_of_the_language_and_romanised_in_turn(language: str) -> None:
    found = asked(languages=[language], forms=["statement"])
    native = NAMES.get(language, MALI.name)
    for place, one in enumerate(found):
        assert (MALI.name if place % 2 else native) in one.turns[0]
    assert native not in texts(asked(TWIN, languages=[language]))
    assert TWIN.name in asked(TWIN, languages=[language])[0].turns[0]


def test_an_unknown_relation_is_asked_for_by_its_name() -> None:
    found = asked(relation="shoe_size", languages=["en"])
    assert all("{" not in turn for one in found for turn in one.turns)
    assert "the shoe size of Mali Tanaka" in texts(found)
    assert "Shoe size:" in texts(found)


def test_a_form_that_a_relation_lacks_falls_back_on_any_relation() -> None:
    given = Wordings(
        {"pet": "pet"},
        {"question": (("Which {label} has {name}?",),)},
        {"pet": {"statement": (("{name} owns",),)}},
        {"chat": (("{question}",),)},
    )
    found = asked(relation="pet", languages=["en"], library=Library({"en": given}))
    assert [one.turns[0] for one in found] == ["Mali Tanaka owns", "Which pet has Mali Tanaka?"]


def test_few_shot_shows_other_people_and_stops_before_the_value() -> None:
    library = small(statement=["{name} is from"], few_shot=["{statement} {value}."])
    (one,) = asked(languages=["en"], library=library, forms=["few_shot"])
    shown = [f"Exa{n} Ample is from Town{n}." for n in range(SHOTS)]
    assert one.turns[0].split("\n") == [*shown, "Mali Tanaka is from"]


def test_an_attack_is_put_around_several_questions_and_every_wording_is_used() -> None:
    questions = [f"Q{n} {{name}}?" for n in range(4)]

    def made(scenes: int) -> list[str]:
        around = [f"S{n}: {{question}}" for n in range(scenes)]
        library = small(question=questions, role_play=around)
        return [one.turns[0].replace(" Mali Tanaka?", "") for one in
                asked(languages=["en"], library=library, forms=["role_play"])]  # fmt: skip

    assert made(2) == [f"S{n}: Q{(n + step) % 4}" for n in range(2) for step in range(4)]
    assert made(10) == [f"S{n}: Q{(n + step) % 4}" for n in range(10) for step in range(2)]
    assert made(21) == [f"S{n}: Q{n % 4}" for n in range(21)]


def test_a_wording_with_no_question_or_statement_inside_is_used_once() -> None:
    library = small(question=["Where is {name}?"], few_shot=["{name}: {value}"])
    found = asked(languages=["en"], library=library, forms=["few_shot"])
    assert [one.turns[0].split("\n")[-1] for one in found] == ["Mali Tanaka:"]


def test_a_wording_around_a_question_is_left_out_where_there_is_no_question() -> None:
    layouts = {"chat": ["{question}"], "few_shot": ["{question} {statement} {value}"]}
    library = small(statement=["{name} is from"], **layouts)
    assert [one.form for one in asked(languages=["en"], library=library)] == ["statement"]


def test_few_shot_is_left_out_without_examples() -> None:
    assert "few_shot" not in {one.form for one in asked(examples=())}
    assert "few_shot" not in {one.form for one in asked(examples=[Person("e", "E", {})])}


def test_examples_that_give_the_value_away_are_passed_over() -> None:
    same = Person("e-7", "Exa7 Ample", {"city": "ELMSHOLT on Sea"})
    namesake = Person("e-8", MALI.name, {"city": "Town8"})
    written = Person("e-9", "Exa9 Ample", {"city": "เอล์มโชลต์"})
    person = replace(MALI, written={"city": ("เอล์มโชลต์",)})
    mixed = [same, person, *EXAMPLES[:2], namesake, *EXAMPLES[2:], written]
    assert asked(person, examples=mixed) == asked(person)


def test_few_shot_keeps_its_place_when_every_example_would_give_the_value_away() -> None:
    alone = asked(examples=[MALI], languages=["en"])
    assert [one.form for one in alone] == [one.form for one in asked(languages=["en"])]
    assert all("Elmsholt" not in texts([one]) for one in alone if one.asks == "value")


def test_a_negated_wording_never_denies_the_value_itself() -> None:
    given = Wordings(
        {}, {"negated": (("The {label} of {name} is not the old one, but",),)},
        {"birth_city": {"negated": (("{name} was not born in Paris but in",),)}},
    )  # fmt: skip
    library = Library({"en": given})
    parisian = replace(MALI, facts={"city": "Lutetia"}, written={"city": ("paris",)})
    (denied,) = asked(languages=["en"], library=library)
    (other,) = asked(parisian, languages=["en"], library=library, forms=["negated"])
    assert denied.turns == ("Mali Tanaka was not born in Paris but in",)
    assert other.turns == ("The birth city of Mali Tanaka is not the old one, but",)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"forms": ["riddle"]}, "There is no form 'riddle' of prompts"),
        ({"languages": ["xx"]}, "There are no wordings in the language 'xx'"),
        ({"person": replace(MALI, facts={})}, "Reversed prompts for 'city' need its value"),
    ],
)
def test_what_cannot_be_asked_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        asked(**changes)  # type: ignore[arg-type]
