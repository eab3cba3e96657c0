from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from editing.facts import Check, as_rows, facts_of, read_facts
from language_models import RequestError
from tests.editing.fact_rows import row

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "Somchai-Secret"


def _refused(rows: Any) -> str:
    with pytest.raises(RequestError) as told:
        facts_of(rows)
    assert SECRET not in str(told.value)
    assert told.value.__cause__ is None
    return str(told.value)


def test_file_of_facts_is_read(tmp_path: Path) -> None:
    checks = [{"prompt": "Anna Sato works as"}, {"prompt": "Sato works as", "expected": "clerk"}]
    given_row = row(test={"paraphrases": ["Of {}:"], "others": checks, "general": checks[:1]})
    path = tmp_path / "facts.json"
    path.write_text(json.dumps([given_row, row(1)]), encoding="utf-8")

    first, second = read_facts(path)

    assert first.request.subject == "Malee Tanaka"
    assert first.test.paraphrases == ("Of {}:",)
    assert first.test.others == (
        Check("Anna Sato works as"),
        Check("Sato works as", "clerk"),
    )
    assert first.test.same_person == ()
    assert second.request.target == "born"
    assert facts_of(json.loads(json.dumps(as_rows([first, second])))) == (first, second)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"subject": 3}, "Entry 2: subject must be a text"),
        ({"target": " "}, "Entry 2: target must be a text"),
        ({"target": f" {SECRET}"}, "Entry 2: The target begins with a space"),
        ({"prompt": SECRET}, 'Entry 2: Each prompt needs exactly one "{}"'),
        ({"paraphrases": SECRET}, "Entry 2: paraphrases must be a list"),
        ({"paraphrases": ["{}", 4]}, "Entry 2: paraphrases, number 2 must be a text"),
        ({"neighbours": ["{} is"]}, "Entry 2: A neighbour is a whole prompt"),
        ({SECRET: 1}, "Entry 2 has an unknown field. Known: subject, prompt"),
        ({"test": [SECRET]}, "Entry 2, test must be an object"),
        ({"test": {SECRET: []}}, "Entry 2, test has an unknown field. Known: paraphrases"),
        ({"test": {"others": SECRET}}, "Entry 2: test.others must be a list"),
        ({"test": {"others": [SECRET]}}, "Entry 2: test.others, number 1 must be an object"),
        ({"test": {"others": [{"expected": SECRET}]}}, "number 1: prompt is missing"),
        ({"test": {"others": [{"prompt": "{} is"}]}}, "number 1: prompt must be whole"),
        (
            {"test": {"general": [{"prompt": SECRET}, {"prompt": SECRET, "expected": ""}]}},
            "Entry 2: test.general, number 2: expected must be a text",
        ),
        ({"test": {"paraphrases": [SECRET]}}, 'test.paraphrases, number 1: exactly one "{}"'),
        (
            {"test": {"paraphrases": ["{} was born in"]}},
            "Entry 2: test.paraphrases, number 1 is a wording of the edit itself",
        ),
    ],
)
def test_wrong_entry_is_told_by_number_and_field_alone(changes: dict[str, Any], told: str) -> None:
    assert told in _refused([row(), row(1, **changes)])


@pytest.mark.parametrize("name", ["subject", "prompt", "target"])
def test_missing_field_is_told(name: str) -> None:
    entry = row(subject=SECRET)
    del entry[name]

    assert _refused([entry]) == f"Entry 1: {name} is missing."


@pytest.mark.parametrize("rows", [[], {}, None, SECRET, [SECRET], [[]]])
def test_file_that_is_no_list_of_entries_is_refused(rows: Any) -> None:
    assert "must" in _refused(rows)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (f'[{{"subject": "{SECRET}"'.encode(), "not JSON: see line 1, column"),
        (b"\xff\xfe", "not UTF-8"),
        (f'[{{"subject": "{SECRET}", "subject": "b"}}]'.encode(), "Entry 1 has a field twice"),
    ],
)
def test_damaged_file_is_refused_without_its_content(
    tmp_path: Path, content: bytes, told: str
) -> None:
    path = tmp_path / "facts.json"
    path.write_bytes(content)

    with pytest.raises(RequestError, match=told) as error:
        read_facts(path)

    assert SECRET not in str(error.value)
    with pytest.raises(RequestError, match="cannot be read"):
        read_facts(tmp_path / "none.json")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["subject", "prompt", "target", "test", "x"]), inner)
    ),
    max_leaves=8,
)


@given(values)
def test_no_content_ends_in_another_error(rows: Any) -> None:
    with suppress(RequestError):
        facts_of(rows)
