"""Find people in records. No Django, no compliance here."""

from __future__ import annotations

from search.profiles import Profile, by_name, profiles
from search.records import Hit, corrected, find, holds, without_subject

__all__ = [
    "Hit",
    "Profile",
    "by_name",
    "corrected",
    "find",
    "holds",
    "profiles",
    "without_subject",
]
