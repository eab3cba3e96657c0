from __future__ import annotations

from datetime import UTC, datetime

import pytest
import time_machine
from django.core import mail
from django.core.exceptions import ValidationError

from compliance.models import AuditEvent, Case, Kind
from compliance.secret import find_case
from compliance.statuses import Status
from compliance.steps import step1_intake
from tests.compliance import factories

pytestmark = pytest.mark.django_db


def test_receive_stores_starts_the_clock_and_logs() -> None:
    bank = factories.organisation()
    with time_machine.travel(datetime(2026, 8, 31, 10, tzinfo=UTC), tick=False):
        case, secret = step1_intake.receive(bank, factories.request())
    assert case.status == Status.RECEIVED
    assert case.due_at.date().isoformat() == "2026-09-30"
    assert find_case(case.reference, secret) == case
    assert secret not in case.secret_digest
    assert [event.action for event in AuditEvent.objects.all()] == ["case.received"]
    assert "Malee" not in AuditEvent.objects.get().leaf


@pytest.mark.django_db(transaction=True)
def test_receive_acknowledges_without_personal_data() -> None:
    case = factories.case(factories.organisation())
    (message,) = mail.outbox
    assert message.to == ["malee@home.example"]
    assert case.reference in message.subject
    assert "Malee" not in message.subject + message.body


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "  "}, "name"),
        ({"contact": ""}, "contact"),
        ({"contact": "not an address"}, "contact"),
        ({"kind": "other"}, "kind"),
        ({"kind": Kind.CORRECTION}, "right_value"),
        ({"kind": Kind.CORRECTION, "right_value": "Sakawa"}, "fact"),
        ({"statement": "x" * 4001}, "statement"),
    ],
)
def test_receive_refuses_an_incomplete_request(changes: dict, field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        factories.case(factories.organisation(), **changes)
    assert field in caught.value.message_dict
    assert Case.objects.count() == 0


def test_find_case_same_answer_for_unknown_reference_and_wrong_secret() -> None:
    case, secret = step1_intake.receive(factories.organisation(), factories.request())
    assert find_case("L2026-AAAA-AAAA", secret) is None
    assert find_case(case.reference, "wrong") is None
    assert find_case(case.reference.lower(), f" {secret} ") == case


def test_receive_refuses_a_fact_that_no_model_knows() -> None:
    bank = factories.organisation()
    factories.model(bank)
    factories.case(bank, fact="birth_city")
    for fact in ("shoe size", "world", "lead_ins"):
        with pytest.raises(ValidationError, match="facts that are offered"):
            factories.case(bank, fact=fact)


@pytest.mark.parametrize("separator", ["\u2028", "\u0085", "\n", "\x00"])
def test_receive_refuses_characters_that_break_lines(separator: str) -> None:
    bank = factories.organisation()
    factories.model(bank)
    with pytest.raises(ValidationError, match="one line"):
        factories.case(
            bank, kind=Kind.CORRECTION, fact="birth_city", right_value=f"Saka{separator}wa"
        )


@pytest.mark.django_db(transaction=True)
def test_receive_survives_a_mail_server_that_is_away(settings, caplog) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    case = factories.case(factories.organisation())
    assert Case.objects.get() == case
    assert "was not sent: ConnectionRefusedError" in caplog.text
    assert "malee@home.example" not in caplog.text
