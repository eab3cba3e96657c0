"""The auditor's list of reports and the log."""

from __future__ import annotations

import hashlib

import pytest
from django.urls import reverse

from compliance.models import AuditEvent, Role
from tests.web import factories, results

pytestmark = pytest.mark.django_db


@pytest.fixture
def case(client):
    place = factories.organisation()
    factories.registry(place)
    client.force_login(factories.user(Role.AUDITOR, place))
    case, _ = factories.received(place)
    factories.closed(case)
    return case


def test_report_is_listed_with_its_hash(client, case):
    text = client.get(reverse("auditor:cases")).content.decode()
    assert hashlib.sha256(results.PDF).hexdigest() in text
    assert reverse("officer:document", args=[case.reference, "report"]) in text


def test_auditor_reads_the_case_by_pseudonym(client, case):
    text = client.get(reverse("officer:case", args=[case.reference])).content.decode()
    assert "Your role reads this case by pseudonym." in text
    assert "Malee" not in text


def test_log_verifies(client, case):
    answer = client.get(reverse("auditor:events"))
    assert answer.context["broken"] is None
    assert "Every event fits the one before it" in answer.content.decode()
    assert [event.label for event in answer.context["events"]][-2:] == [
        "Request received",
        "Model registered",
    ]


def test_a_changed_event_is_named(client, case):
    event = AuditEvent.objects.get(seq=3)
    AuditEvent.objects.filter(pk=event.pk).update(leaf=event.leaf.replace("identity", "targets"))
    answer = client.get(reverse("auditor:events"))
    assert answer.context["broken"] == 3
    assert "The log does not verify" in answer.content.decode()
