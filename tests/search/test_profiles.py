from __future__ import annotations

from search import Profile, by_name, profiles
from tests.compliance.factories import NOTE, PROFILE


def test_profiles_are_read_and_come_back_from_their_dictionary() -> None:
    (profile,) = profiles([PROFILE, NOTE])
    assert profile.subject == "c-1"
    assert Profile.from_dict(profile.as_dict()) == profile


def test_by_name_in_either_script_ignoring_case_and_spaces() -> None:
    people = profiles([PROFILE])
    assert by_name(people, " malee   TANAKA ") == people
    assert by_name(people, "มาลี ทานากะ") == people
    assert by_name(people, "Malee") == []
