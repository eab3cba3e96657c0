"""Records about a person in a dataset keyed by subject: find them, leave them out, correct them.

A dataset is JSON lines, each with id, subject, kind and text. Lines that are kept are kept byte
for byte.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from language_models.errors import RequestError
from language_models.matching import contains_normalised, normalise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Hit:
    """One record that concerns the person, and by what it was found.

    own: the record is keyed by the person's subject id; otherwise it is somebody else's, or
    nobody's, and mentions an identifier. by: "subject id" or the label of the identifier.
    """

    record: str
    own: bool
    by: str

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values: record ids and labels, no values."""
        return asdict(self)


def find(lines: Sequence[str], *, subject: str | None, identifiers: Mapping[str, str]) -> list[Hit]:
    """Return every record of the subject, and every other one that holds an identifier.

    identifiers: label -> value ("name", "native name", "e-mail"); found as whole words after
    Unicode NFKC and case folding. Empty values are skipped.
    """
    wanted = {label: normalise(value) for label, value in identifiers.items() if value.strip()}
    found = []
    for line in lines:
        row = json.loads(line)
        if subject is not None and row["subject"] == subject:
            found.append(Hit(row["id"], own=True, by="subject id"))
            continue
        text = normalise(_text(row))
        label = next((key for key, value in wanted.items() if contains_normalised(text, value)), "")
        if label:
            found.append(Hit(row["id"], own=False, by=label))
    return found


def without_subject(lines: Sequence[str], subject: str) -> list[str]:
    """Return the lines that are not the subject's."""
    return [line for line in lines if json.loads(line)["subject"] != subject]


def corrected(lines: Sequence[str], subject: str, former: str, new: str) -> tuple[list[str], int]:
    """Replace a value in the subject's rows; return all lines and how many changed.

    Raises RequestError when either value is empty.
    """
    if not former or not new:
        raise RequestError("A correction needs the former and the new value.")
    result, changed = [], 0
    for line in lines:
        row = json.loads(line)
        if row["subject"] == subject and former in line:
            line = json.dumps(_replaced(row, former, new), ensure_ascii=False)
            changed += 1
        result.append(line)
    return result, changed


def holds(line: str, subject: str, value: str) -> bool:
    """Whether a record is the subject's and holds the value as a whole word."""
    row = json.loads(line)
    if row["subject"] != subject:
        return False
    return contains_normalised(normalise(_text(row)), normalise(value))


def _replaced(value: Any, former: str, new: str) -> Any:
    if isinstance(value, str):
        return value.replace(former, new)
    if isinstance(value, dict):
        return {key: _replaced(inner, former, new) for key, inner in value.items()}
    return value


def _text(value: Any) -> str:
    """All text of a record, also in nested fields."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "\n".join(_text(inner) for inner in value.values())
    return ""
