"""Training records keyed by subject: one JSON object a line with "id", "subject" and "text".

The file holds what people's records say. It is written readable by its owner alone, and no error
repeats a word of it.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from language_models.errors import RequestError
from language_models.files import sync
from language_models.generation import encode, end_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from language_models.checkpoint import LanguageModel

FIELDS = ("id", "subject", "text")
# Half a character: JSON lets it in, UTF-8 does not.
SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Record:
    """One text, its own id and the id of the person it is about."""

    id: str
    subject: str
    text: str


def read_records(path: str | Path) -> tuple[Record, ...]:
    """Read records in file order; further keys of a line are ignored.

    Raises RequestError, with the line's number alone, for a line that is not such an object, an
    empty value or an id that stands twice.
    """
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise RequestError("The file of records cannot be read. Check the path.") from error
    records: list[Record] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        record = _record(line, number)
        if record.id in seen:
            raise RequestError(f"Line {number}: its id stands in an earlier line. Give it another.")
        seen.add(record.id)
        records.append(record)
    if not records:
        raise RequestError("The file of records is empty. Give at least one line.")
    return tuple(records)


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write records as JSON lines that their owner alone can read, whole or not at all."""
    work = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(work, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            for record in records:
                stream.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
        sync(work)
        work.replace(path)
    finally:
        work.unlink(missing_ok=True)
    sync(path.parent)


def tokens(lm: LanguageModel, text: str, most: int) -> list[int]:
    """Return a text's ids with the model's end mark, as it is trained on, at most `most`."""
    ids = encode(lm, text)
    ends = end_tokens(lm)
    if ends and ids[-1] not in ends:
        ids = [*ids, ends[0]]
    if len(ids[:most]) < 2:
        raise RequestError("A text has too few tokens to learn from. Leave it out.")
    return ids[:most]


def _record(line: bytes, number: int) -> Record:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        # Not chained: the cause would repeat the line.
        raise RequestError(f"Line {number} is not JSON in UTF-8. Correct it.") from None
    if not isinstance(value, dict):
        raise RequestError(f"Line {number} is not a JSON object. Correct it.")
    for field in FIELDS:
        text = value.get(field)
        if not isinstance(text, str) or not text.strip() or SURROGATE.search(text):
            raise RequestError(f'Line {number}: "{field}" must be text in Unicode, not empty.')
    return Record(value["id"], value["subject"], value["text"])
