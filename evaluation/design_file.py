"""A design from a JSON file, read strictly.

The file names people, so what is wrong in it is told by field and place, never by content.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from evaluation.attacks import ATTACKS
from evaluation.attacks.again import settings_of
from evaluation.compare import Thresholds
from evaluation.plan import Attack, GeneralFact, Person
from evaluation.planning import Design
from language_models.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Reader = Callable[[Any, str], Any]
# Half of a pair in UTF-16: no text can be written with it.
SURROGATE = re.compile("[\ud800-\udfff]")
# Settings that take certain values alone; a frozen plan with others could never be measured.
CHOICES: dict[str, tuple[Any, ...]] = {
    "bits": (4, 8),
    "library": ("rounding", "torchao", "bitsandbytes"),
}


def read_design(path: Path) -> Design:
    """Read a design: the fields of Design by their names. Raises RequestError."""
    try:
        row = json.loads(path.read_bytes(), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        # Not chained: the cause would repeat a part of the file.
        raise RequestError(
            "The design is not JSON in UTF-8, or has a field twice. Correct it."
        ) from None
    design: Design = _row(Design, FIELDS)(row, "the design")
    return design


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError
    return row


def _row(kind: type[Any], readers: Mapping[str, Reader]) -> Reader:
    """Return a reader of a dataclass from an object with its fields."""
    needed = [one.name for one in fields(kind)
              if one.default is MISSING and one.default_factory is MISSING]  # fmt: skip

    def read(value: Any, where: str) -> Any:
        row = _object(value, where)
        for number, name in enumerate(row, 1):
            if name not in readers:
                raise RequestError(
                    f"Field {number} of {where} is unknown. Known: {', '.join(readers)}."
                )
        for name in needed:
            if name not in row:
                raise RequestError(f'"{name}" is missing in {where}. Add it.')
        return kind(**{name: readers[name](one, f"{where}, {name}") for name, one in row.items()})

    return read


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, "an object")
    return value


def _many(read: Reader) -> Reader:
    def every(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _wrong(where, "a list")
        return tuple(read(one, f"{where}, entry {n}") for n, one in enumerate(value, 1))

    return every


def _named(read: Reader) -> Reader:
    def every(value: Any, where: str) -> dict[str, Any]:
        row = _object(value, where)
        return {
            _text(name, f"{where}, name {n}"): read(one, f"{where}, entry {n}")
            for n, (name, one) in enumerate(row.items(), 1)
        }

    return every


def _maybe(read: Reader) -> Reader:
    return lambda value, where: None if value is None else read(value, where)


def _any_text(value: Any, where: str) -> str:
    if not isinstance(value, str) or SURROGATE.search(value):
        raise _wrong(where, "text in Unicode")
    return value


def _text(value: Any, where: str) -> str:
    if not _any_text(value, where).strip():
        raise _wrong(where, "text that is not empty")
    return str(value)


def _whole(least: int) -> Reader:
    def read(value: Any, where: str) -> int:
        if type(value) is not int or value < least:
            raise _wrong(where, f"a whole number from {least}")
        return value

    return read


def _number(value: Any, where: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise _wrong(where, "a finite number")
    return float(value)


def _above_0(value: Any, where: str) -> float:
    if _number(value, where) <= 0:
        raise _wrong(where, "a number above 0")
    return float(value)


def _thresholds(value: Any, where: str) -> dict[str, float]:
    found: dict[str, float] = _named(_number)(value, where)
    Thresholds.from_mapping(found)
    return found


def _attack(value: Any, where: str) -> Attack:
    """Read {"name", setting: value …}; a setting has the type of its default."""
    row = _object(value, where)
    name = row.get("name")
    if not isinstance(name, str) or name not in ATTACKS:
        raise _wrong(f"{where}, name", f"one of {', '.join(sorted(ATTACKS))}")
    settings = {key: one for key, one in row.items() if key != "name"}
    settings_of(name, settings)
    return Attack(
        name, {key: _setting(name, key, one, f"{where}, {key}") for key, one in settings.items()}
    )


def _setting(attack: str, key: str, value: Any, where: str) -> Any:
    if key in CHOICES:
        if value not in CHOICES[key] or isinstance(value, float):
            raise _wrong(where, f"one of {', '.join(map(str, CHOICES[key]))}")
        return value
    default = ATTACKS[attack].settings[key]
    read = _above_0 if isinstance(default, float) else _whole(0 if key == "seed" else 1)
    return read(value, where)


def _wrong(where: str, needed: str) -> RequestError:
    return RequestError(f"{where[0].upper()}{where[1:]}: {needed} is needed.")


_TEXTS = _many(_text)
PERSON = _row(
    Person,
    {
        "id": _text,
        "name": _text,
        "facts": _named(_text),
        "language": _text,
        "names": _named(_text),
        "written": _named(_TEXTS),
    },
)
FIELDS: dict[str, Reader] = {
    "subject": PERSON,
    "others": _many(PERSON),
    "wordings": _named(_TEXTS),
    "used": _many(_any_text),
    "leak": _TEXTS,
    "new_values": _named(_text),
    "given": _named(_TEXTS),
    "keep": _TEXTS,
    "general": _many(_row(GeneralFact, {"prompt": _text, "answer": _text})),
    "lead_ins": _many(_any_text),
    "language": _text,
    "languages": _TEXTS,
    "forms": _TEXTS,
    "longest": _maybe(_whole(1)),
    "relations": _named(_text),
    "leak_probes": _whole(1),
    "twins": _whole(0),
    "control_probes": _whole(0),
    "indirect_probes": _whole(0),
    "indirect_controls": _whole(0),
    "other_people": _whole(0),
    "wordings_per_other": _whole(1),
    "max_new_tokens": _whole(1),
    "temperature": _above_0,
    "seed": _whole(0),
    "own_texts": _TEXTS,
    "held_out": _TEXTS,
    "attacks": _many(_attack),
    "thresholds": _thresholds,
    "bound": _maybe(_above_0),
}
