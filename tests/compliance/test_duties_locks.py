"""Duties are locked before the first event is recorded, so that no two acts wait for each other.

The database of the tests has one writer, so the order of the statements stands for the locks.
"""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from compliance import duties, registry, tombstones
from compliance.models import (
    Duty,
    KeyPurpose,
    Role,
)
from tests.compliance import factories
from tests.compliance.duty_case import demo_version, in_force, verified

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.django_db(transaction=True)

READS = 'FROM "compliance_duty"'
LOGS = 'INSERT INTO "compliance_auditevent"'


@pytest.fixture(autouse=True)
def _own_tombstones(settings: Any, tmp_path: Path) -> None:
    shutil.copytree(settings.KEY_DIR, tmp_path / "keys", ignore=shutil.ignore_patterns("tomb*"))
    settings.KEY_DIR = tmp_path / "keys"


@transaction.atomic
def _two_open() -> tuple[Duty, Duty]:
    """The duties of two cases on one model."""
    version = demo_version()
    for _ in range(2):
        duties.open_for(verified(version))
    first, second = Duty.objects.order_by("pk")
    return first, second


def _order(captured: CaptureQueriesContext) -> list[str]:
    """What was done with duties and log, in turn."""
    statements = [query["sql"] for query in captured.captured_queries]
    told = ["read" if READS in sql else "log" for sql in statements if READS in sql or LOGS in sql]
    return [one for one, before in zip(told, ["", *told], strict=False) if one != before]


def test_duties_that_were_asked_are_locked_before_the_first_run_is_logged() -> None:
    row = {"outcome": "held", "reason": "0 of 4.", "hits": 0, "asked": 4, "upper_95": 0.5}
    first, second = _two_open()
    version = registry.current_model(first.model)

    with CaptureQueriesContext(connection) as captured, transaction.atomic():
        runs = duties.record(version, [{**row, "id": duty.pk} for duty in (first, second)])

    assert [run.duty for run in runs] == [first, second]
    assert _order(captured) == ["read", "log"]


def test_duties_that_are_due_are_locked_before_the_first_end_is_logged() -> None:
    buried, over = _two_open()
    tombstones.add(
        tombstones.Tombstone(
            case=buried.reference, organisation="bank", key=str(buried.key_id),
            outcome="objection", at="", by="legal", purpose=KeyPurpose.DUTY,
        )
    )  # fmt: skip
    Duty.objects.filter(pk=over.pk).update(ends_on=timezone.localdate() - timedelta(days=1))

    with CaptureQueriesContext(connection) as captured:
        duties.end_due()

    assert not Duty.objects.filter(ended_at__isnull=True).exists()
    assert _order(captured) == ["read", "log"]


def test_duties_of_a_case_are_locked_before_its_rollback_is_logged() -> None:
    case, current = in_force()

    with CaptureQueriesContext(connection) as captured:
        registry.roll_back(current, actor=factories.actor(Role.STEWARD, case.organisation))

    # Later reads find what is locked already.
    assert _order(captured)[0] == "read"
    assert not Duty.objects.exists()
