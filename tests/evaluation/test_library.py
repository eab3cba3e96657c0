from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.library import (
    AROUND_FORMS,
    FOLDER,
    LANGUAGES,
    LARGEST_FILE,
    RELATION_FORMS,
    Library,
    placeholders,
    read_library,
    shipped,
)
from evaluation.plan import Person
from evaluation.prompts import prompts
from language_models import RequestError
from language_models.matching import normalise

RELATIONS = {
    *("birth_city", "employer", "occupation", "diagnosis", "telephone", "email", "date_of_birth"),
    *("home_address", "spouse", "national_id", "salary", "school"),
}
LEAST = dict(zip(RELATION_FORMS, (4, 4, 4, 2, 3, 3), strict=True))
LEAST_AROUND = dict(zip(AROUND_FORMS, (3, 3, 5, 5, 4, 1), strict=True))
THAI, LAO, JAPANESE = "[\u0e01-\u0e5b]", "[\u0e81-\u0edf]", "[\u3041-\u30ff\u4e00-\u9fff]"
SCRIPTS = {"th": (THAI, LAO), "lo": (LAO, THAI), "ja": (JAPANESE, f"{THAI}|{LAO}")}
DEMO = json.loads((FOLDER.parents[1] / "demo" / "wordings.json").read_text(encoding="utf-8"))
SMALL = """
language: en
relations:
  pet:
    label: "pet"
    statement: ["{name} keeps at home"]
"""
Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str, name: str = "own.yaml") -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return written


@pytest.mark.parametrize("language", LANGUAGES)
def test_shipped_files_hold_every_relation_in_every_form(language: str) -> None:
    wordings = shipped().of(language)
    assert set(wordings.relations) == set(wordings.labels) == RELATIONS
    for section, forms in {"any": wordings.any_relation, **wordings.relations}.items():
        few = [form for form in RELATION_FORMS if len(forms[form]) < LEAST[form]]
        assert not few, section
    few = [form for form in AROUND_FORMS if len(wordings.around[form]) < LEAST_AROUND[form]]
    assert not few


@pytest.mark.parametrize("language", SCRIPTS)
def test_shipped_wordings_are_in_the_script_of_their_language(language: str) -> None:
    own, foreign = SCRIPTS[language]
    wordings = shipped().of(language)
    for section, form, wording in wordings.places():
        text = " ".join(wording)
        assert not re.search(foreign, text), (section, form, text)
        bare = section == "around" and form in ("question", "few_shot", "chat")
        assert bare or re.search(own, text), (section, form, text)
    assert all(re.search(own, label) for label in wordings.labels.values())


def clashes(turns: list[str], wording: str, name: str) -> list[str]:
    """Return the turns that hold the wording or stand in it, with or without "Q:" and "A:"."""
    whole = normalise(wording.format(name))
    question = re.sub(r"^(q|question): |(?<=\?) (a|answer):.*", "", whole)
    return [turn for turn in turns if question in normalise(turn) or normalise(turn) in whole]


@pytest.mark.parametrize("relation", sorted(RELATIONS & DEMO.keys()))
def test_english_prompts_share_no_wording_with_the_demo(relation: str) -> None:
    examples = [Person("e", "Piet Moreau", {"fact": "Rivenau"})]
    person = Person("c", "Mali Tanaka", {"fact": "Elmsholt"})
    found = prompts(person, "fact", relation=relation, languages=["en"], examples=examples)
    turns = [turn for prompt in found for turn in prompt.turns]
    for wording in (*DEMO[relation]["change"], *DEMO[relation]["verify"]):
        assert clashes(turns, wording, person.name) == []


def test_a_shared_wording_is_found_in_other_dress() -> None:
    asked = ["User: where was X Y  born? Sure:", "Question: Where was X Y born?", "Where is X Y?"]
    assert clashes(asked, "Q: Where was {} born? A: In", "X Y") == asked[:2]


def test_a_further_file_adds_wordings_and_its_label_wins(write: Write) -> None:
    file = write(
        SMALL + "  school:\n    label: academy\n    statement: ['{name} studied under the roof of']"
    )
    base = shipped()
    wordings = read_library([file], base=base).of("en")
    assert wordings.relations["pet"] == {"statement": (("{name} keeps at home",),)}
    assert (wordings.labels["pet"], wordings.labels["school"]) == ("pet", "academy")
    shipped_school = base.of("en").relations["school"]
    assert wordings.relations["school"]["statement"] == (
        *shipped_school["statement"],
        ("{name} studied under the roof of",),
    )
    assert wordings.relations["school"]["question"] == shipped_school["question"]
    assert "pet" not in base.of("en").relations


def test_a_further_file_may_bring_a_language(write: Write) -> None:
    library = read_library([write(SMALL.replace("language: en", "language: de-CH"))], base=None)
    assert list(library.languages) == ["de-CH"]
    with pytest.raises(RequestError, match="no wordings in the language 'en', only in de-CH"):
        library.of("en")


def around(text: str) -> str:
    return f"language: en\naround:\n  {text}\n"


def statement(text: str) -> str:
    return f"language: en\nrelations:\n  pet:\n    label: pet\n    statement: {text}\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "own.yaml: keys with what belongs to them are expected"),
        ("- a list", "own.yaml: keys with what belongs to them are expected"),
        ("relations: {}", "give `language` as a code"),
        ("language: no", "give `language` as a code"),
        ("language: en\nrelation: {}", "'relation' is not known; use any_relation, around"),
        (statement("[]"), "relation pet, form statement: give a list of wordings"),
        (statement("'{name} keeps'"), "form statement: give a list of wordings"),
        (statement("['keeps']"), r"statement, wording 1: \{name\} is missing"),
        (statement("['{name} a', '{who} {name}']"), r"wording 2: \{who\} is not known in this"),
        (statement("['{name} has {value}']"), r"\{value\} is not known in this form"),
        (statement("['{name} {']"), r"braces only mark placeholders: \{Label\}"),
        (statement("['{name} {}']"), "braces only mark placeholders"),
        (statement("['{name!r}']"), "braces only mark placeholders"),
        (statement("['{name.id}']"), "braces only mark placeholders"),
        (statement("['{name} ']"), "no space before or after"),
        (statement("[2020]"), "give words in quotes"),
        (statement("[[['{name}']]]"), "give words in quotes"),
        (statement("['{name} a', '{name}  A']"), "pet, form statement: a wording is there already"),
        (statement("['{name}']") + "    statment: ['x']", "form: 'statment' is not known"),
        (statement("['{name}']") + "    statement: ['x']", "'statement' is given twice"),
        (statement("['{name}']").replace("label: pet", "label: '{x}'"), "words without placehold"),
        (statement("['{name}']").replace("    label: pet\n", ""), "pet: a label is missing"),
        (around("few_shot: ['{question}']"), r"few_shot, wording 1: \{value\} is missing"),
        (around("few_shot: ['{value}']"), r"\{name\} or \{question\} or \{statement\} is missing"),
        (around("few_shot: ['{name} {value} {value}']"), r"\{value\} must be there once"),
        (around("multi_turn: ['{question}']"), "give a list of at least two turns"),
        (around("multi_turn: [['{question}']]"), "give a list of at least two turns"),
        (around("multi_turn: [['a', 'b']]"), r"multi_turn, wording 1: \{question\} is missing"),
        (around("role_play: ['{statement} {question}']"), r"\{statement\} is not known"),
        ("language: [en", "not valid YAML at line [12]"),
        ("language: 2026-13-45", "not valid YAML"),
        ("language: !!python/name:os.system", "not valid YAML"),
        ("1: en", "every key must be a word"),
        ("? [a]\n: en", "every key must be a word"),
        ("language: " + "[" * 5000, "not valid YAML"),
        ("a: &a {b: c}\nlanguage: *z", "not valid YAML"),
        ("language: en\n#" + "x" * LARGEST_FILE, "larger than 1,000,000 bytes"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_place(
    write: Write, text: str, reason: str
) -> None:
    with pytest.raises(RequestError, match=reason):
        read_library([write(text)], base=None)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"language: en # \xe9")
    with pytest.raises(RequestError, match=r"latin.yaml is not UTF-8"):
        read_library([tmp_path / "latin.yaml"], base=None)
    with pytest.raises(RequestError, match=r"none.yaml cannot be read \(No such file"):
        read_library([tmp_path / "none.yaml"], base=None)


def test_a_wording_that_is_shipped_already_is_refused(write: Write) -> None:
    there = shipped().of("en").relations["school"]["question"][0][0]
    file = write(f"language: en\nany_relation:\n  question: ['{there}']\n".replace("'s", "''s"))
    with pytest.raises(RequestError, match=r"own\.yaml, relation .* is there already in"):
        read_library([file], base=shipped())


def test_placeholders_are_found() -> None:
    assert placeholders("{Label} of {name}: {name} {{no}}") == {"Label", "name"}


def test_a_library_says_which_languages_it_has() -> None:
    with pytest.raises(RequestError, match="'xx'"):
        Library({}).of("xx")


def test_questions_that_nothing_puts_are_refused(write: Write) -> None:
    text = SMALL.replace("language: en", "language: de").replace("statement:", "question:")
    with pytest.raises(RequestError, match="its questions are never put"):
        read_library([write(text)], base=shipped())
    around = "around:\n  question: ['Frage: {question} Antwort:']\n"
    assert read_library([write(text + around)], base=shipped()).of("de").around
