"""A user's own facts with the questions that test them, read strictly from one JSON file.

The file is a list of entries, as docs/editing.md shows. What is wrong in it is told by the number
of the entry and the name of the field, never by its content: the file holds personal data.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editing.requests import EditRequest
from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Check:
    """A whole prompt and the value its answer must keep; None: what the model answers now."""

    prompt: str
    expected: str | None = None


@dataclass(frozen=True)
class FactTest:
    """How an edit is tested: by nothing that it was made with.

    paraphrases: wordings with one "{}". others: other people's same fact and the like.
    same_person: the same person's other facts. general: facts about nobody.
    """

    paraphrases: tuple[str, ...] = ()
    others: tuple[Check, ...] = ()
    same_person: tuple[Check, ...] = ()
    general: tuple[Check, ...] = ()


@dataclass(frozen=True)
class Fact:
    """One fact to rewrite and its test."""

    request: EditRequest
    test: FactTest = FactTest()


REQUEST_FIELDS = tuple(one.name for one in fields(EditRequest))
TEST_FIELDS = tuple(one.name for one in fields(FactTest))
CHECK_FIELDS = tuple(one.name for one in fields(Check))


def read_facts(path: str | Path) -> tuple[Fact, ...]:
    """Read a file of facts; raises RequestError that names the entry and the field."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise RequestError("The file of facts cannot be read. Check the path.") from error
    try:
        # The parser's own error would carry the whole text with it.
        rows = json.loads(content.decode("utf-8"), object_pairs_hook=_Once.each)
    except UnicodeDecodeError:
        raise RequestError("The file of facts is not UTF-8. Save it as UTF-8.") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise RequestError(f"The file of facts is not JSON: see {place}.") from None
    return facts_of(rows)


def facts_of(rows: Any) -> tuple[Fact, ...]:
    """Return the facts of the parsed content of a file; raises RequestError."""
    if not isinstance(rows, list) or not rows:
        raise RequestError("The file of facts must hold a list with at least one entry.")
    return tuple(_fact(row, f"Entry {number}") for number, row in enumerate(rows, start=1))


def as_rows(facts: Sequence[Fact]) -> list[dict[str, Any]]:
    """Return what `facts_of` reads back as the same facts."""
    return [
        {name: getattr(fact.request, name) for name in REQUEST_FIELDS}
        | {
            "test": {"paraphrases": fact.test.paraphrases}
            | {name: [_row(check) for check in getattr(fact.test, name)]
               for name in TEST_FIELDS[1:]}
        }
        for fact in facts
    ]  # fmt: skip


class _Once(dict[str, Any]):
    """An object of the file; `twice` says that one of its fields came more than once."""

    twice = False

    @classmethod
    def each(cls, pairs: Iterable[tuple[str, Any]]) -> _Once:
        listed = list(pairs)
        found = cls(listed)
        found.twice = len(found) < len(listed)
        return found


def _fact(row: Any, where: str) -> Fact:
    _object(row, where, (*REQUEST_FIELDS, "test"), REQUEST_FIELDS[:3])
    texts = {name: _text(row[name], where, name) for name in REQUEST_FIELDS[:3]}
    lists = {name: _texts(row.get(name, []), where, name) for name in REQUEST_FIELDS[3:]}
    try:
        request = EditRequest(**texts, **lists)  # type: ignore[arg-type]
    except RequestError as error:
        raise RequestError(f"{where}: {error}") from None
    return Fact(request, _test(row.get("test", {}), request, where))


def _test(row: Any, request: EditRequest, where: str) -> FactTest:
    _object(row, f"{where}, test", TEST_FIELDS)
    name = "test.paraphrases"
    paraphrases = _texts(row.get("paraphrases", []), where, name)
    for number, wording in enumerate(paraphrases, start=1):
        if wording.count("{}") != 1:
            raise RequestError(f'{where}: {name}, number {number}: exactly one "{{}}" is needed.')
        if wording in request.wordings:
            raise RequestError(
                f"{where}: {name}, number {number} is a wording of the edit itself. Test by"
                " wordings that the edit does not see."
            )
    checks = {name: _checks(row.get(name, []), where, f"test.{name}") for name in TEST_FIELDS[1:]}
    return FactTest(paraphrases, **checks)


def _checks(rows: Any, where: str, name: str) -> tuple[Check, ...]:
    if not isinstance(rows, list):
        raise RequestError(f"{where}: {name} must be a list.")
    found = []
    for number, row in enumerate(rows, start=1):
        place = f"{where}: {name}, number {number}"
        _object(row, place, CHECK_FIELDS, CHECK_FIELDS[:1])
        prompt = _text(row["prompt"], place, "prompt")
        if "{}" in prompt:
            raise RequestError(f'{place}: prompt must be whole, with a name in place of "{{}}".')
        expected = row.get("expected")
        found.append(
            Check(prompt, None if expected is None else _text(expected, place, "expected"))
        )
    return tuple(found)


def _object(row: Any, where: str, known: Sequence[str], needed: Sequence[str] = ()) -> None:
    if not isinstance(row, dict):
        raise RequestError(f"{where} must be an object with the fields {', '.join(known)}.")
    if getattr(row, "twice", False):
        raise RequestError(f"{where} has a field twice. Keep one of them.")
    if not row.keys() <= set(known):
        raise RequestError(f"{where} has an unknown field. Known: {', '.join(known)}.")
    for name in needed:
        if name not in row:
            raise RequestError(f"{where}: {name} is missing.")


def _text(value: Any, where: str, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise RequestError(f"{where}: {name} must be a text that is not empty.")
    return value


def _texts(value: Any, where: str, name: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise RequestError(f"{where}: {name} must be a list of texts.")
    return tuple(
        _text(one, where, f"{name}, number {number}") for number, one in enumerate(value, start=1)
    )


def _row(check: Check) -> dict[str, str]:
    return {"prompt": check.prompt} | (
        {} if check.expected is None else {"expected": check.expected}
    )
