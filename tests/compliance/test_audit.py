"""The log of record: appended with its act, refused to be changed, proved and verified."""

from __future__ import annotations

import contextlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from compliance import append_only, audit, audit_check
from compliance.key_files import KeyUnavailable
from compliance.models import AuditEvent
from compliance.permissions import SYSTEM
from reports.transparency_log import open_checkpoint, open_proof, tree_root, verify_consistency
from tests.compliance import factories

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.django_db


@pytest.fixture
def loosened() -> Iterator[None]:
    """Somebody who owns the database took the triggers down."""
    append_only.remove(connection)
    yield
    append_only.remove(connection)
    append_only.install(connection)


def _events(count: int = 4) -> list[AuditEvent]:
    case = factories.case(factories.organisation())
    for number in range(count - 1):
        audit.record("targets.found", actor=SYSTEM, case=case, affected=number)
    return list(AuditEvent.objects.all())


def _problem() -> str | None:
    """What is found once the triggers are back, as a forger would put them."""
    append_only.remove(connection)
    append_only.install(connection)
    return audit_check.verify().problem


def test_record_is_gapless_and_every_root_is_that_of_rfc_6962() -> None:
    events = _events(20)
    assert [event.seq for event in events] == list(range(20))
    digests = [bytes.fromhex(event.digest) for event in events]
    for size in range(21):
        assert audit.root(size) == tree_root(digests[:size])
    assert audit_check.verify().problem is None


def test_record_refuses_unknown_actions_and_stands_or_falls_with_its_act() -> None:
    with pytest.raises(KeyError, match="Unregistered"):
        audit.record("something.else", actor=SYSTEM)
    with contextlib.suppress(RuntimeError), transaction.atomic():
        audit.record("targets.found", actor=SYSTEM)
        raise RuntimeError
    assert AuditEvent.objects.count() == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE compliance_auditevent SET leaf = 'x'",
        "DELETE FROM compliance_auditevent WHERE seq = 1",
    ],
)
def test_database_refuses_to_change_or_remove_events(statement: str) -> None:
    _events()
    with (
        pytest.raises(DatabaseError, match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
    assert AuditEvent.objects.count() == 4


def test_missing_triggers_are_told(loosened: None) -> None:
    _events()
    assert "triggers" in audit_check.verify().problem


@pytest.mark.parametrize(
    "change", ["leaf", "column", "case", "delete", "swap", "cut the leaf", "delete the last"]
)
def test_every_change_behind_the_triggers_is_found(change: str, loosened: None) -> None:
    events = _events()
    audit.checkpoint()
    second = AuditEvent.objects.filter(seq=1)
    if change == "leaf":
        second.update(leaf=events[1].leaf.replace('"affected":0', '"affected":9'))
    elif change == "column":
        second.update(action="targets.lost")
    elif change == "case":
        second.update(case=None)
    elif change == "delete":
        second.delete()
    elif change == "swap":
        second.update(leaf=events[2].leaf, digest=events[2].digest, node=events[2].node)
    elif change == "cut the leaf":
        second.update(leaf=events[1].leaf[:-1])
    else:
        AuditEvent.objects.filter(seq=3).delete()
    problem = _problem()
    assert problem is not None
    assert "Event 1 " in problem or change == "delete the last"
    with pytest.raises(CommandError, match="does not verify"):
        call_command("verify_audit")


def test_log_written_anew_contradicts_the_checkpoint_that_was_signed(loosened: None) -> None:
    events = _events()
    audit.checkpoint()
    AuditEvent.objects.all().delete()
    with transaction.atomic():
        for event in events:
            facts = json.loads(event.leaf)["facts"] | {"forged": True}
            audit.record(event.action, actor=SYSTEM, case=event.case, **facts)
    assert "written anew" in (_problem() or "")
    with pytest.raises(audit.LogBroken, match="not those that were signed"):
        audit.checkpoint()


def test_old_backup_is_noticed_and_nothing_more_is_signed(loosened: None) -> None:
    _events()
    audit.checkpoint()
    AuditEvent.objects.filter(seq__gt=1).delete()
    assert "old backup" in (_problem() or "")
    with pytest.raises(audit.LogBroken, match="events are missing"):
        audit.checkpoint()


def test_checkpoint_kept_elsewhere_is_held_against_the_log(settings, tmp_path, capsys) -> None:
    events = _events()
    kept = tmp_path / "kept.checkpoint"
    kept.write_text(audit.checkpoint(), encoding="utf-8")
    call_command("verify_audit", checkpoint=[kept])
    assert "4 events, unbroken, consistent with 2" in capsys.readouterr().out
    # The forger takes the triggers down, and removes what the installation itself had signed.
    append_only.remove(connection)
    AuditEvent.objects.filter(seq=3).delete()
    with transaction.atomic():
        audit.record("targets.found", actor=SYSTEM, case=events[3].case, affected=77)
    for note in settings.CHECKPOINT_DIR.glob("*"):
        note.unlink()
    assert _problem() is None
    with pytest.raises(CommandError, match="written anew"):
        call_command("verify_audit", checkpoint=[kept])


def test_damaged_checkpoint_is_named(settings) -> None:
    _events()
    audit.checkpoint()
    (path,) = settings.CHECKPOINT_DIR.glob("*")
    path.write_text(path.read_text(encoding="utf-8").replace("4", "3", 1), encoding="utf-8")
    assert path.name in (audit_check.verify().problem or "")


def test_proof_of_an_event_verifies_without_the_database() -> None:
    events = _events(9)
    key = audit.verifier_key()
    for event in events:
        leaf, index, checkpoint = open_proof(audit.proof(event), key)
        assert (leaf.decode(), index, checkpoint.size) == (event.leaf, event.seq, 9)


def test_log_that_grew_is_consistent_with_its_former_checkpoint() -> None:
    case = _events(5)[0].case
    key = audit.verifier_key()
    former = open_checkpoint(audit.checkpoint(), key)
    for number in range(7):
        audit.record("targets.found", actor=SYSTEM, case=case, affected=number)
    now = open_checkpoint(audit.checkpoint(), key)
    path = audit.consistency(former.size, now.size)
    verify_consistency(former.root, former.size, now.root, now.size, path)
    assert audit_check.verify().checkpoints == 2


def test_clock_set_back_is_told_and_breaks_nothing(capsys) -> None:
    case = _events()[0].case
    with time_machine.travel(timezone.now() - timedelta(days=400)):
        audit.record("targets.found", actor=SYSTEM, case=case, affected=0)
    call_command("verify_audit")
    out = capsys.readouterr().out
    assert "5 events, unbroken" in out
    assert "a clock was set back" in out


def test_missing_key_of_the_log_is_told(settings, tmp_path) -> None:
    settings.KEY_DIR = tmp_path / "keys"
    with pytest.raises(KeyUnavailable, match=r"log\.vkey"):
        audit.verifier_key()
    with pytest.raises(CommandError, match=r"log\.vkey"):
        call_command("verify_audit")
