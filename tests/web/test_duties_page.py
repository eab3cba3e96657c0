"""Legal sees what finished cases still ask of later versions, and may end it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction
from django.urls import reverse

from compliance import duties
from compliance.models import AuditEvent, Case, Duty, ModelVersion, Role
from tests.compliance import duty_case
from tests.web import factories

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def case(client, settings: Any, tmp_path: Path) -> Case:
    """A finished case with an open duty, and somebody in legal who looks at it."""
    shutil.copytree(settings.KEY_DIR, tmp_path / "keys", ignore=shutil.ignore_patterns("tomb*"))
    settings.KEY_DIR = tmp_path / "keys"
    case, _ = duty_case.open_duty()
    client.force_login(factories.user(Role.LEGAL, case.organisation))
    return case


@transaction.atomic
def answered(version: ModelVersion, **found: Any) -> None:
    duties.record(version, duty_case.found(**found))


def page(client) -> str:
    return client.get(reverse("legal:duties")).content.decode()


def test_open_duties_are_listed_with_their_newest_answer(client, case: Case) -> None:
    assert "not yet" in page(client)
    version = ModelVersion.objects.get(state="current")
    answered(version)
    answered(version, outcome="resurfaced", reason="3 of 4 came out.", hits=3)

    text = page(client)

    for words in (case.reference, "Came out again", "3 of 4 came out.", version.digest[:16]):
        assert words in text
    assert "0 of 4." not in text


def test_duty_names_the_case_that_it_keeps_from_its_change(client, case: Case) -> None:
    waiting = duty_case.applied(ModelVersion.objects.get(state="current"))
    candidate = ModelVersion.objects.get(state="candidate")
    answered(candidate, outcome="resurfaced")
    ModelVersion.objects.filter(pk=candidate.pk).update(state="discarded")

    (asked,) = client.get(reverse("legal:duties")).context["models"]

    assert [kept.reference for row in asked.duties for kept in row.keeps] == [waiting.reference]


def test_ending_asks_for_the_reason_and_says_what_it_means(client, case: Case) -> None:
    url = reverse("legal:end_duty", args=[case.reference])

    assert "There is no way back" in client.get(url).content.decode()
    assert "Choose the reason." in client.post(url).content.decode()
    assert Duty.objects.get().ended_at is None

    text = client.post(url, {"reason": "objection"}, follow=True).content.decode()

    assert f"Later versions are not asked for {case.reference} any more." in text
    assert "No open duty" in text
    assert Duty.objects.get().ended_at is not None
    assert '"via":"page"' in AuditEvent.objects.get(action="duty.ended").leaf


def test_ending_what_has_ended_is_told_and_is_no_success(client, case: Case) -> None:
    url = reverse("legal:end_duty", args=[case.reference])
    client.post(url, {"reason": "objection"}, follow=True)

    text = client.post(url, {"reason": "objection"}, follow=True).content.decode()

    assert "This case has no open duty." in text
    assert "are not asked for" not in text


def test_duties_of_another_organisation_are_not_there(client, case: Case) -> None:
    client.force_login(factories.user(Role.LEGAL, factories.organisation("elsewhere", "Elsewhere")))

    assert case.reference not in page(client)
    assert client.get(reverse("legal:end_duty", args=[case.reference])).status_code == 404
