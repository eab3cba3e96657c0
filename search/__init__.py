"""Find, delete and correct a person's records in training data. No Django, no compliance here."""

from __future__ import annotations

from search.profiles import Profile, by_name, profiles
from search.records import (
    RecordMatch,
    Rewrite,
    SearchResult,
    correct_subject,
    count_holding,
    find_subject,
    remove_subject,
)

__all__ = [
    "Profile",
    "RecordMatch",
    "Rewrite",
    "SearchResult",
    "by_name",
    "correct_subject",
    "count_holding",
    "find_subject",
    "profiles",
    "remove_subject",
]
