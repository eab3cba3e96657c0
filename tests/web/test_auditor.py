"""The auditor's list of reports and the log."""

from __future__ import annotations

import hashlib
import json

import pytest
from django.db import connection
from django.urls import reverse

from compliance import append_only, audit
from compliance.models import AuditEvent, Role
from reports.transparency_log import VerifierKey, open_checkpoint, open_proof
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
    assert answer.context["check"].problem is None
    assert "events of this installation" in answer.content.decode()
    assert [event.label for event in answer.context["events"]][-2:] == [
        "Request received",
        "Model registered",
    ]


def test_a_changed_event_is_named(client, case):
    event = AuditEvent.objects.get(seq=3)
    append_only.remove(connection)
    AuditEvent.objects.filter(pk=event.pk).update(leaf=event.leaf.replace("identity", "targets"))
    append_only.install(connection)
    answer = client.get(reverse("auditor:events"))
    assert "Event 3 " in answer.context["check"].problem
    assert "The log does not verify" in answer.content.decode()


def test_auditor_takes_checkpoint_key_and_verifier_along(client, case):
    note = client.get(reverse("auditor:checkpoint"))
    key = VerifierKey.parse(client.get(reverse("auditor:key")).content.decode().strip())
    assert open_checkpoint(note.content.decode(), key).size == audit.size()
    verifier = client.get(reverse("auditor:verifier")).content.decode()
    assert "def open_checkpoint" in verifier
    assert AuditEvent.objects.get(action="log.exported").leaf.count("auditor") == 1


def test_proof_of_the_report_verifies_offline(client, case):
    answer = client.get(reverse("officer:proof", args=[case.reference, "report"]))
    leaf, _, _ = open_proof(answer.content.decode(), audit.verifier_key())
    assert json.loads(leaf)["facts"]["sha256"] == hashlib.sha256(results.PDF).hexdigest()
    assert client.get(reverse("officer:proof", args=[case.reference, "letter"])).status_code == 404
