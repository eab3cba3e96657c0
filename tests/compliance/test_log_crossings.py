"""Around the log: other processes, other statements, strangers and clocks that want it to grow."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import time_machine
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from compliance import (
    audit,
    jobs,
    retention,
)
from compliance.models import (
    AuditEvent,
    Job,
    Role,
)
from compliance.permissions import SYSTEM, NotAllowed
from compliance.steps import step2_identity
from compliance.web.access import note_read
from tests.compliance import factories

pytestmark = pytest.mark.django_db(transaction=True)


def test_replace_does_not_get_past_the_triggers() -> None:
    with transaction.atomic():
        audit.record("keys.rotated", actor=SYSTEM, kek="a", keys=1)
    columns = "seq, case_id, at, action, leaf, digest, node"
    replace = "REPLACE" if connection.vendor == "sqlite" else "INSERT"
    with (
        pytest.raises(DatabaseError),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(
            f"{replace} INTO compliance_auditevent ({columns}) "  # noqa: S608 -- constants
            "SELECT seq, case_id, at, action, '{}', digest, node FROM compliance_auditevent"
        )
    assert AuditEvent.objects.get().leaf != "{}"


def test_another_process_that_signs_meanwhile_is_no_false_alarm(monkeypatch) -> None:
    with transaction.atomic():
        audit.record("keys.rotated", actor=SYSTEM, kek="a", keys=1)
    audit.checkpoint()
    size = audit.size

    def overtaken() -> int:
        known = size()
        monkeypatch.setattr(audit, "size", size)
        # What another process signed a moment later lies in the folder by now.
        (settings.CHECKPOINT_DIR / f"{known + 1:012d}.checkpoint").write_text("a later one")
        return known

    monkeypatch.setattr(audit, "size", overtaken)
    audit.checkpoint()


def test_checkpoint_is_not_signed_inside_a_transaction() -> None:
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        audit.checkpoint()


def test_damaged_newest_checkpoint_is_a_broken_log() -> None:
    with transaction.atomic():
        audit.record("keys.rotated", actor=SYSTEM, kek="a", keys=1)
    (settings.CHECKPOINT_DIR / "000000000001.checkpoint").write_text("x")
    with pytest.raises(audit.LogBroken, match="is damaged"):
        audit.checkpoint()


def test_stranger_cannot_let_the_log_grow() -> None:
    bank = factories.organisation()
    factories.dataset(bank)
    case = factories.case(bank)
    step2_identity.send_code(case, actor=factories.actor(Role.OFFICER, bank))
    for _ in range(50):
        with pytest.raises(NotAllowed):
            step2_identity.enter_code(case, "AAAAAAAA")
    assert case.events.filter(action="identity.code_failed").count() == 5


def test_waiting_job_does_not_let_the_log_grow() -> None:
    case = factories.case(factories.organisation())
    job = jobs.start("find", case=case)
    for _ in range(9):
        Job.objects.update(not_before=timezone.now())
        jobs._again(jobs.claim(job.pk), seconds=0, stage="The disk is full.", counted=False)
    assert not case.events.filter(action="job.restarted").exists()


def test_read_from_the_future_hides_no_read_and_a_look_moves_no_case() -> None:
    bank = factories.organisation()
    request: Any = SimpleNamespace(actor=factories.actor(Role.LEGAL, bank))
    with time_machine.travel(timezone.now() - timedelta(days=300)):
        case = factories.case(bank)
    with time_machine.travel(timezone.now() + timedelta(days=365)):
        note_read(request, case)
    note_read(request, case)
    note_read(request, case)
    assert case.events.filter(action="case.read").count() == 2
    assert [item.case for item in retention.review(bank).stalled] == [case]
