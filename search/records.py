"""Records in JSON lines: who is in them, and new lines without or with corrected records.

A record is an object with "id" and "subject" (or null); its other texts, at any depth, are what
is searched and corrected. Lines come as bytes from anywhere, because a dataset at rest is sealed
and its plain form stays in memory; they are read one by one.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ahocorasick_rs import AhoCorasick

from language_models.errors import RequestError
from language_models.matching import contains_normalised, normalise, whole_word

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# What names a record and its subject is not text about anybody.
NAMES = frozenset({"id", "subject", "kind"})


@dataclass(frozen=True)
class RecordMatch:
    """One record: its subject's id and the labels of what was found in it."""

    record: str
    subject: str | None
    found: tuple[str, ...]


@dataclass(frozen=True)
class SearchResult:
    """What a search found; no text of the records is in it."""

    records: int
    searched: tuple[str, ...]
    matches: tuple[RecordMatch, ...]


@dataclass(frozen=True)
class Rewrite:
    """The new lines, with what became of the old ones."""

    lines: tuple[bytes, ...]
    removed: int
    corrected: int


def find_subject(
    lines: Iterable[bytes], *, subject: str | None, identifiers: Mapping[str, str]
) -> SearchResult:
    """Search for a subject's own records and for identifiers, label -> value, in all others.

    A record of the subject is labelled "subject id". A value matches as a whole word after NFKC
    and case folding; empty values are skipped. Raises RequestError without anything to look for.
    """
    labels: dict[str, set[str]] = {}
    for label, value in identifiers.items():
        if normalise(value):
            labels.setdefault(normalise(value), set()).add(label)
    if not labels and subject is None:
        raise RequestError("Give a subject id, a name or an identifier to search for.")
    patterns = list(labels)
    automaton = AhoCorasick(patterns)
    matches, count = [], 0
    for _, record in _records(lines):
        count += 1
        found: set[str] = set()
        if subject is not None and record["subject"] == subject:
            found.add("subject id")
        for text in _texts(record):
            for number in _whole_words(automaton, normalise(text)):
                found |= labels[patterns[number]]
        if found:
            matches.append(RecordMatch(record["id"], record["subject"], tuple(sorted(found))))
    searched = sorted({label for group in labels.values() for label in group})
    return SearchResult(
        count, tuple(["subject id"] * (subject is not None) + searched), tuple(matches)
    )


def remove_subject(lines: Iterable[bytes], subject: str) -> Rewrite:
    """Leave out the records of this subject; all other lines keep each byte."""
    kept, removed = [], 0
    for line, record in _records(lines):
        if record["subject"] == subject:
            removed += 1
        else:
            kept.append(line)
    return Rewrite(tuple(kept), removed, 0)


def correct_subject(lines: Iterable[bytes], subject: str, old: str, new: str) -> Rewrite:
    """Say `new` wherever this subject's records said `old`; all other lines keep each byte."""
    if not old.strip() or not new.strip() or normalise(old) == normalise(new):
        raise RequestError("Give an old and a new value that differ.")
    pattern = re.compile(r"\s+".join(re.escape(part) for part in old.split()), re.IGNORECASE)
    result, corrected = [], 0
    for line, record in _records(lines):
        if record["subject"] == subject:
            texts = {key: value for key, value in record.items() if key not in NAMES}
            changed, count = _corrected(texts, pattern, new)
            if count:
                line = (json.dumps(record | changed, ensure_ascii=False) + "\n").encode()
                corrected += 1
        result.append(line)
    return Rewrite(tuple(result), 0, corrected)


def count_holding(lines: Iterable[bytes], subject: str, value: str) -> int:
    """Count the subject's records that hold the value as a whole word."""
    wanted = normalise(value)
    return sum(
        record["subject"] == subject
        and any(contains_normalised(normalise(text), wanted) for text in _texts(record))
        for _, record in _records(lines)
    )


def _records(lines: Iterable[bytes]) -> Iterator[tuple[bytes, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (UnicodeDecodeError, json.JSONDecodeError):
            # Without its cause: the decoder's message holds the line.
            raise RequestError(f"Line {number} of the records is not valid JSON.") from None
        if not (isinstance(record, dict) and isinstance(record.get("id"), str)):
            raise RequestError(f'Line {number} of the records is no object with an "id".')
        if not isinstance(record.setdefault("subject", None), str | None):
            raise RequestError(f'Line {number} of the records has a "subject" that is no id.')
        yield line, record


def _texts(value: Any) -> Iterator[str]:
    """Yield all strings of a record but those that name it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in NAMES:
                yield from _texts(inner)


def _whole_words(automaton: AhoCorasick, text: str) -> Iterator[int]:
    for number, start, end in automaton.find_matches_as_indexes(text, overlapping=True):
        if whole_word(text, start, end):
            yield number


def _corrected(value: Any, pattern: re.Pattern[str], new: str) -> tuple[Any, int]:
    """Return the value with whole-word matches replaced, and how many there were."""
    if isinstance(value, str):
        text = unicodedata.normalize("NFC", value)
        found = [match for match in pattern.finditer(text) if whole_word(text, *match.span())]
        for match in reversed(found):
            text = text[: match.start()] + new + text[match.end() :]
        return (text, len(found)) if found else (value, 0)
    if isinstance(value, list):
        pairs = [_corrected(inner, pattern, new) for inner in value]
        return [pair[0] for pair in pairs], sum(pair[1] for pair in pairs)
    if isinstance(value, dict):
        changed = {key: _corrected(inner, pattern, new) for key, inner in value.items()}
        return {key: pair[0] for key, pair in changed.items()}, sum(
            pair[1] for pair in changed.values()
        )
    return value, 0
