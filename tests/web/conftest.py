"""The office and the officer that the pages of a case are tested with."""

from __future__ import annotations

import pytest

from compliance.models import Role
from tests.web import factories


@pytest.fixture
def place(db):
    place = factories.organisation()
    factories.registry(place)
    return place


@pytest.fixture
def officer(client, place):
    account = factories.user(Role.OFFICER, place)
    client.force_login(account)
    return account
