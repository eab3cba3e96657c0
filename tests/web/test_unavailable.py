"""A page over a missing key or a database that is away says so, and changes nothing."""

from __future__ import annotations

import shutil

import pytest
from django.db import OperationalError
from django.urls import reverse

from compliance import vault
from compliance.models import Role
from tests.web import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def place(settings, tmp_path):
    shutil.copytree(settings.KEY_DIR, tmp_path / "keys")
    settings.KEY_DIR = tmp_path / "keys"
    vault._unwrapped.clear()
    made = factories.organisation()
    factories.registry(made)
    return made


def test_missing_key_is_named_to_staff_and_not_to_strangers(client, place, settings) -> None:
    case, _ = factories.received(place)
    shutil.rmtree(settings.KEY_DIR / "vault")
    vault._unwrapped.clear()
    answer = client.get(reverse("public:request"))
    assert answer.status_code == 503
    assert "vault" not in answer.content.decode()
    client.force_login(factories.user(Role.OFFICER, place))
    answer = client.get(reverse("officer:case", args=[case.reference]))
    assert answer.status_code == 503
    assert "is missing. Restore it from the backup of the keys" in answer.content.decode()


def test_database_away_is_told(client, place, monkeypatch) -> None:
    client.force_login(factories.user(Role.OFFICER, place))

    def away(*_args: object) -> None:
        raise OperationalError("connection to server at 10.0.0.7 failed")

    monkeypatch.setattr("compliance.web.queries.cases", away)
    answer = client.get(reverse("officer:queue"))
    assert answer.status_code == 503
    assert "10.0.0.7" not in answer.content.decode()
    assert answer["Cache-Control"] == "no-store"
