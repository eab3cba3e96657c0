"""When a duty ends: on its day, with its case or its version, or because somebody decided so."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.utils import timezone

from compliance import duties, letters, registry, shredding, store, tombstones, upkeep, vault
from compliance.envelope import SealError
from compliance.models import (
    AuditEvent,
    Case,
    DataKey,
    Decision,
    Duty,
    Outcome,
    Role,
    User,
    VersionState,
)
from compliance.permissions import SYSTEM
from compliance.statuses import Status
from tests.compliance import factories
from tests.compliance.duty_case import NOW, in_force, open_duty, verified, version

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _own_tombstones(settings: Any, tmp_path: Path) -> None:
    shutil.copytree(settings.KEY_DIR, tmp_path / "keys", ignore=shutil.ignore_patterns("tomb*"))
    settings.KEY_DIR = tmp_path / "keys"


def _is_destroyed(duty: Duty) -> bool:
    with pytest.raises(SealError):
        vault.key_named(str(duty.key_id))
    return not store.artefact_path(duty.sealed).exists()


def _ends() -> list[dict[str, Any]]:
    """Actor and facts of every end in the log."""
    leaves = AuditEvent.objects.filter(action="duty.ended").order_by("seq")
    rows = [json.loads(event.leaf) for event in leaves]
    return [{"actor": row["actor"], **row["facts"]} for row in rows]


# --- By itself ---


def test_duty_whose_day_is_over_is_destroyed_with_its_key() -> None:
    _, duty = open_duty()
    Duty.objects.update(ends_on=timezone.localdate() - timedelta(days=1))

    assert upkeep.keep_up() == []

    duty.refresh_from_db()
    assert duty.ended_at is not None
    assert _is_destroyed(duty)
    assert duties.for_child(duty.model) == []
    assert _ends() == [{"actor": "system", "duty": duty.pk, "organisation": "bank"}]


def test_shredding_a_case_ends_its_duty() -> None:
    case, duty = open_duty()
    Case.objects.filter(pk=case.pk).update(
        status=Status.CLOSED, closed_at=NOW, outcome=Outcome.FULFILLED
    )

    shredding.shred(case, actor=SYSTEM, reason="test")

    assert _is_destroyed(duty)


def test_files_that_a_crash_left_of_an_ended_duty_are_removed() -> None:
    case, duty = open_duty()
    path = store.artefact_path(duty.sealed)
    kept = path.read_bytes()
    with transaction.atomic():
        duties.end_of(case, actor=SYSTEM)
    assert not path.exists()
    # As if the process had died between the commit and the removal.
    path.write_bytes(kept)

    assert upkeep.keep_up() == []

    assert not path.exists()


def test_rolling_back_its_version_ends_a_duty() -> None:
    case, current = in_force()
    duty = Duty.objects.get()
    steward = factories.actor(Role.STEWARD, case.organisation)

    registry.roll_back(current, actor=steward)

    assert _is_destroyed(duty)
    assert not Duty.objects.exists()
    assert tombstones.all_of_them() == []


@transaction.atomic
def test_second_attempt_of_a_case_opens_its_duty_anew() -> None:
    case, first = open_duty()
    duties.drop(case, actor=SYSTEM)

    Decision.objects.update(outcome="superseded")
    duties.open_for(case)
    assert not Duty.objects.exists()

    Decision.objects.update(outcome="approved")
    duties.open_for(case)
    assert Duty.objects.get().pk != first.pk


# --- By hand ---


def _decider(case: Case, role: Role = Role.LEGAL) -> User:
    return factories.user(role, case.organisation, f"{role.value}@bank")


def _end(case: Case, by: str, reason: str = "objection") -> None:
    call_command("end_duty", case.reference, "--by", by, "--reason", reason)


@pytest.mark.parametrize("named", ["username", "reference"])
def test_duty_ends_by_hand_once_and_the_log_names_who_decided(
    named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    case, duty = open_duty()
    user = _decider(case)

    _end(case, getattr(user, named), "later_request")

    assert capsys.readouterr().out == "1 duty ended.\n"
    assert _is_destroyed(duty)
    assert _ends() == [
        {
            "actor": f"legal {user.reference}",
            "duty": duty.pk,
            "organisation": "bank",
            "reason": "later_request",
            "via": "command",
        }
    ]
    with pytest.raises(CommandError, match="no open duty"):
        _end(case, user.username)


def test_damaged_duty_ends_by_hand() -> None:
    case, duty = open_duty()
    store.remove_artefact(duty.sealed)

    _end(case, _decider(case).username, "damaged")

    assert duties.for_child(duty.model) == []


def test_duty_is_ended_by_legal_of_its_organisation_alone() -> None:
    case, duty = open_duty()
    left = _decider(case)
    User.objects.filter(pk=left.pk).update(is_active=False)
    other = factories.user(Role.LEGAL, factories.organisation("other"), "legal@other")
    for by, words in (
        ("nobody", "no active account"),
        (left.username, "no active account"),
        (_decider(case, Role.STEWARD).username, "Only Legal may do this"),
        (other.username, "belongs to another organisation"),
    ):
        with pytest.raises(CommandError, match=words):
            _end(case, by)
    case.reference = "L2026-0000-0000"
    with pytest.raises(CommandError, match="no case of this reference"):
        _end(case, other.username)

    duty.refresh_from_db()
    assert duty.ended_at is None
    assert tombstones.all_of_them() == []


def test_restored_backup_does_not_undo_an_objection() -> None:
    case, duty = open_duty()
    user = _decider(case)
    wrapped = DataKey.objects.get(pk=duty.key_id).wrapped
    sealed = store.artefact_path(duty.sealed).read_bytes()
    _end(case, user.username)
    # What an old backup holds:
    DataKey.objects.filter(pk=duty.key_id).update(wrapped=wrapped, destroyed_at=None)
    Duty.objects.update(ended_at=None)
    store.artefact_path(duty.sealed).write_bytes(sealed)
    (row,) = duties.for_child(duty.model)
    assert row == {"id": duty.pk, "problem": vault.DESTROYED}

    assert upkeep.keep_up() == []

    duty.refresh_from_db()
    assert duty.ended_at is not None
    assert DataKey.objects.get(pk=duty.key_id).wrapped == ""
    assert _is_destroyed(duty)
    assert _ends()[-1] == {
        "actor": "system",
        "duty": duty.pk,
        "organisation": "bank",
        "reason": "objection",
        "via": "tombstone",
        "decided_by": f"legal {user.reference}",
    }
    # The case itself stands.
    case.refresh_from_db()
    assert case.shredded_at is None
    assert vault.key_of(case)


def test_rollback_and_a_new_attempt_do_not_undo_an_objection() -> None:
    case, current = in_force()
    _end(case, _decider(case).username)
    registry.roll_back(current, actor=factories.actor(Role.STEWARD, case.organisation))

    Decision.objects.update(outcome="approved")
    with transaction.atomic():
        duties.open_for(case)

    assert not Duty.objects.exists()
    case.outcome = Outcome.FULFILLED
    letter = letters.compose(case, {"targets": [], "not_tested": []})
    assert not any("What we keep" in (block["heading"] or "") for block in letter["blocks"])


def test_only_an_objection_keeps_a_new_attempt_from_opening_a_duty() -> None:
    case, current = in_force()
    _end(case, _decider(case).username, "damaged")
    registry.roll_back(current, actor=factories.actor(Role.STEWARD, case.organisation))

    Decision.objects.update(outcome="approved")
    with transaction.atomic():
        duties.open_for(case)

    assert Duty.objects.get().reference == case.reference


def test_duty_of_another_case_on_the_model_goes_on() -> None:
    first = verified(version())
    with transaction.atomic():
        duties.open_for(first)
    later = verified(Duty.objects.get().model.versions.get(state=VersionState.CURRENT))
    with transaction.atomic():
        duties.open_for(later)

    _end(first, _decider(first).username)

    assert [duty.reference for duty in duties.open_duties(Duty.objects.first().model)] == [
        later.reference
    ]
