"""The steward's list of versions and the way back."""

from __future__ import annotations

import pytest
from django.urls import reverse

from compliance.models import ModelVersion, Role, VersionState
from compliance.steps import documentation
from tests.web import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def case(client):
    place = factories.organisation()
    factories.registry(place)
    client.force_login(factories.user(Role.STEWARD, place))
    case, _ = factories.received(place)
    factories.verified(case)
    factories.documented(case)
    return case


def roll_back_url() -> str:
    version = ModelVersion.objects.get(state=VersionState.CURRENT)
    return reverse("steward:roll_back", args=[version.pk])


def test_versions_are_listed_with_their_lineage(client, case):
    text = client.get(reverse("steward:models")).content.decode()
    for version in ModelVersion.objects.all():
        assert version.digest[:16] in text
    assert case.reference in text
    assert roll_back_url() in text


def test_rolling_back_asks_first(client, case):
    text = client.get(roll_back_url()).content.decode()
    assert case.reference in text
    assert ModelVersion.objects.get(state=VersionState.CURRENT).parent is not None


def test_a_missing_former_version_is_told_on_the_page(client, case):
    answer = client.post(roll_back_url(), follow=True)
    assert "Not done." in answer.content.decode()
    assert ModelVersion.objects.get(state=VersionState.CURRENT).parent is not None


def test_after_closure_there_is_no_way_back(client, case):
    documentation.close(case, actor=factories.actor(Role.OFFICER, case.organisation))
    assert roll_back_url() not in client.get(reverse("steward:models")).content.decode()
    answer = client.post(roll_back_url(), follow=True)
    assert "its former version is not kept" in answer.content.decode()
