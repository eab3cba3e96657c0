"""The files of a request: subjects, key, texts, person and gates, read strictly.

All but the key hold personal data. What is wrong in them is told by line and field, never by
content, and what they say is never an argument of a command: arguments can be seen by every process
of a machine and stay in the history of the shell.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from language_models.errors import RequestError
from unlearning.gates import Gates, Question
from unlearning.records import SURROGATE
from unlearning.results import Passage

if TYPE_CHECKING:
    from unlearning.results import Text

KEY_VARIABLE = "LETHE_SHARDS_KEY"
STANDARD_INPUT = "-"
QUESTIONS = ("forget", "retain", "general")
LIMITS = tuple(one.name for one in fields(Gates) if one.name not in QUESTIONS)


@dataclass(frozen=True)
class Person:
    """Whom an approximate request is about; its repr shows nothing.

    values: what neighbours share. forget_values: what alone is unlearnt in the texts; none: all.
    """

    subject: str = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    values: tuple[str, ...] = field(default=(), repr=False)
    forget_values: tuple[str, ...] = field(default=(), repr=False)


def read_subjects(path: str) -> list[str]:
    """Read subject ids, one a line, from a file or, for "-", from the standard input."""
    whole = sys.stdin.buffer.read() if path == STANDARD_INPUT else _content(Path(path))
    lines = [line.rstrip("\r") for line in _decoded(whole).split("\n")]
    subjects = [line for line in lines if line.strip()]
    if not subjects:
        raise RequestError("No subject is given. Write one id a line.")
    return subjects


def read_key(path: Path | None) -> bytes:
    """Read the key of sharded adapters: hexadecimal digits in a file, or in the environment."""
    text = os.environ.get(KEY_VARIABLE, "") if path is None else _decoded(_content(path))
    if not text.strip():
        raise RequestError(f"The key is missing. Give its file with --key, or set {KEY_VARIABLE}.")
    try:
        return bytes.fromhex(text.strip())
    except ValueError:
        raise RequestError(
            "The key must be hexadecimal digits, as openssl rand -hex 32 makes them."
        ) from None


def read_texts(path: Path) -> list[Text]:
    """Read texts, one JSON object a line; other keys may be.

    {"text"}, {"text", "values"} of which the values alone are learnt, or {"prompt", "answer"}.
    """
    lines = enumerate(_content(path).splitlines(), start=1)
    return [_learnt(line, f"Line {number} of {path.name}") for number, line in lines]


def _learnt(line: bytes, where: str) -> Text:
    row = _object(line, where)
    if "text" not in row:
        return _text(row, "prompt", where), _text(row, "answer", where)
    text, values = _text(row, "text", where), _texts(row, "values", where)
    return Passage(text, values) if "values" in row else text


def read_person(path: Path) -> Person:
    """Read {"subject", "names": [all spellings], "values": […], "forget_values": […]}."""
    row = _object(_content(path), path.name)
    subject = _text(row, "subject", path.name)
    return Person(
        subject, *(_texts(row, name, path.name) for name in ("names", "values", "forget_values"))
    )


def read_gates(path: Path) -> Gates:
    """Read lists of {"prompt", "answer"} under forget, retain and general, and limits if wanted."""
    row = _object(_content(path), path.name)
    unknown = sorted(row.keys() - {*QUESTIONS, *LIMITS})
    if unknown:
        raise RequestError(
            f"{path.name} has an unknown field. Known: {', '.join((*QUESTIONS, *LIMITS))}."
        )
    forget, retain, general = (
        _questions(row.get(name, []), f"{path.name}, {name}") for name in QUESTIONS
    )
    limits = {name: row[name] for name in LIMITS if name in row}
    if not all(type(limit) in (int, float) for limit in limits.values()):
        raise RequestError(f"{path.name}: {', '.join(LIMITS)} must be numbers.")
    return Gates(forget, retain, general, **limits)


def _questions(rows: Any, where: str) -> tuple[Question, ...]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RequestError(f"{where}: a list of objects with prompt and answer is needed.")
    return tuple(
        Question(*(_text(row, name, f"{where}, number {number}") for name in ("prompt", "answer")))
        for number, row in enumerate(rows, start=1)
    )


def _object(content: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        # Not chained: the cause would repeat the text.
        raise RequestError(f"{where} is not JSON in UTF-8. Correct it.") from None
    if not isinstance(value, dict):
        raise RequestError(f"{where} must be a JSON object. Correct it.")
    return value


def _text(row: dict[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip() or SURROGATE.search(value):
        raise RequestError(f'{where}: "{name}" must be text in Unicode, not empty.')
    return value


def _texts(row: dict[str, Any], name: str, where: str) -> tuple[str, ...]:
    values = row.get(name, [])
    if not isinstance(values, list):
        raise RequestError(f'{where}: "{name}" must be a list of texts.')
    return tuple(_text({name: value}, name, where) for value in values)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RequestError(f"{path.name} cannot be read. Check the path.") from error


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RequestError("The file is not UTF-8. Save it as UTF-8.") from None
