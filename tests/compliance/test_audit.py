from __future__ import annotations

import contextlib

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from compliance import audit
from compliance.models import AuditEvent
from compliance.permissions import SYSTEM
from tests.compliance import factories

pytestmark = pytest.mark.django_db


def _events(count: int = 4) -> list[AuditEvent]:
    case = factories.case(factories.organisation())
    for number in range(count - 1):
        audit.record("targets.found", actor=SYSTEM, case=case, affected=number)
    return list(AuditEvent.objects.all())


def test_record_is_gapless_and_chained() -> None:
    assert [event.seq for event in _events()] == [0, 1, 2, 3]
    assert audit.first_broken() is None


def test_leaf_hash_is_that_of_rfc_6962() -> None:
    # RFC 6962 §2.1: the hash of an empty leaf.
    empty = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert audit.leaf_hash("") == empty


@pytest.mark.parametrize("change", ["edit", "delete", "swap", "truncate the leaf"])
def test_every_change_is_found(change: str) -> None:
    events = _events()
    second = events[1]
    if change == "edit":
        AuditEvent.objects.filter(pk=second.pk).update(
            leaf=second.leaf.replace('"affected":0', '"affected":9')
        )
    elif change == "delete":
        AuditEvent.objects.filter(pk=second.pk).delete()
    elif change == "swap":
        AuditEvent.objects.filter(pk=second.pk).update(leaf=events[2].leaf, digest=events[2].digest)
    else:
        AuditEvent.objects.filter(pk=second.pk).update(leaf=second.leaf[:-1])
    assert audit.first_broken() == 1
    with pytest.raises(CommandError, match="Event 1"):
        call_command("verify_audit")


def test_verify_audit_prints_the_head(capsys) -> None:
    head = _events()[-1].chain
    call_command("verify_audit")
    assert head in capsys.readouterr().out


def test_record_refuses_unknown_actions_and_stands_or_falls_with_its_act() -> None:
    with pytest.raises(KeyError, match="Unregistered"):
        audit.record("something.else", actor=SYSTEM)
    with contextlib.suppress(RuntimeError), transaction.atomic():
        audit.record("targets.found", actor=SYSTEM)
        raise RuntimeError
    assert AuditEvent.objects.count() == 0
