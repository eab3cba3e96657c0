"""What is left of a person when their case is shredded, and after a backup is restored."""

from __future__ import annotations

import shlex
import shutil
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from django.core import serializers
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone

from compliance import (
    audit,
    audit_check,
    registry,
    retention,
    shredding,
    store,
    tombstones,
    upkeep,
    vault,
)
from compliance.envelope import SealError
from compliance.models import (
    Case,
    DataKey,
    Dataset,
    DatasetVersion,
    Document,
    Job,
    Outcome,
    Role,
    Subject,
    Target,
    VersionState,
)
from compliance.permissions import SYSTEM, NotAllowed
from compliance.secret import find_case
from compliance.statuses import Status
from reports.transparency_log import ProofError, check_consistency
from tests.web import factories

if TYPE_CHECKING:
    from pathlib import Path

# Real commits: what is done after them is half of a shredding.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _own_tombstones(settings, tmp_path: Path) -> None:
    shutil.copytree(settings.KEY_DIR, tmp_path / "keys", ignore=shutil.ignore_patterns("tomb*"))
    settings.KEY_DIR = tmp_path / "keys"


def _closed() -> tuple[Case, str]:
    place = factories.organisation()
    factories.registry(place)
    case, secret = factories.received(place)
    factories.closed(case)
    return Case.objects.get(pk=case.pk), secret


def _artefacts() -> set[Path]:
    return set((settings.STORE_DIR / "artefacts").glob("??/*"))


def test_shredding_leaves_record_and_report_and_nothing_personal() -> None:
    before = _artefacts()
    case, secret = _closed()
    key = case.data_key
    letter = Document.objects.get(case=case, kind="letter")
    sealed = [path for path in _artefacts() - before if path in store.sealed_under({str(key.pk)})]
    assert sealed
    shredding.shred(case, actor=SYSTEM, reason="test")
    case.refresh_from_db()
    assert case.shredded_at is not None
    assert case.outcome == Outcome.FULFILLED
    assert not Subject.objects.filter(case=case).exists()
    assert not Target.objects.filter(case=case).exists()
    assert not Job.objects.filter(case=case).exists()
    assert not case.decisions.exists()
    assert not any(path.exists() for path in sealed)
    assert not store.artefact_path(letter.artefact).exists()
    assert find_case(case.reference, secret) is None
    # The report outlives it, and the log still verifies.
    assert store.get(case.documents.get().artefact).startswith(b"%PDF")
    assert case.documents.get().kind == "report"
    assert audit_check.verify().problem is None
    assert case.events.filter(action="case.shredded").count() == 1


def test_destroyed_key_is_gone_from_its_row() -> None:
    case, _ = _closed()
    key = case.data_key
    assert key.wrapped
    shredding.shred(case, actor=SYSTEM, reason="test")
    key.refresh_from_db()
    assert (key.wrapped, key.destroyed_at is None) == ("", False)
    with pytest.raises(SealError, match="destroyed"):
        vault.key_of(case)


def test_shredding_twice_and_open_cases() -> None:
    case, _ = _closed()
    shredding.shred(case, actor=SYSTEM, reason="test")
    shredding.shred(Case.objects.get(pk=case.pk), actor=SYSTEM, reason="test")
    assert case.events.filter(action="case.shredded").count() == 1
    assert tombstones.path().read_text().count("\n") == 1
    other, _ = factories.received(case.organisation)
    with pytest.raises(ValueError, match="closed"):
        shredding.shred(other, actor=SYSTEM, reason="test")
    assert Subject.objects.filter(case=other).exists()


def test_other_cases_and_versions_in_force_stay() -> None:
    case, _ = _closed()
    other, _ = factories.received(case.organisation)
    shredding.shred(case, actor=SYSTEM, reason="test")
    assert Subject.objects.get(case=other).details["name"]
    current = registry.current_dataset(Dataset.objects.get())
    assert (current.made_for, current.case) == (None, case)
    assert store.get_dataset(current.digest)


@pytest.mark.parametrize("closed_in_the_backup", [True, False])
def test_restored_backup_does_not_bring_the_person_back(closed_in_the_backup: bool) -> None:
    """The rows and the wrapped key come back; the tombstone lies beside the keys and does not."""
    case, _ = _closed()
    rows = [
        *DataKey.objects.filter(case=case),
        *Subject.objects.filter(case=case),
    ]
    backup = serializers.serialize("json", rows, fields=None)
    wrapped, details = case.data_key.wrapped, Subject.objects.get(case=case).details
    assert "Malee" not in backup
    shredding.shred(case, actor=SYSTEM, reason="test")
    # What an old backup holds:
    DataKey.objects.filter(case=case).update(wrapped=wrapped, destroyed_at=None)
    Case.objects.filter(pk=case.pk).update(
        shredded_at=None,
        **({} if closed_in_the_backup else {"status": Status.METHOD, "outcome": ""}),
    )
    with pytest.raises(SealError, match="destroyed"):
        Subject(case=case, details=details).save()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO compliance_subject (case_id, details, name_index, contact_index) "
            "VALUES (%s, %s, '', '')",
            [case.pk, b"ciphertext of the backup"],
        )
    upkeep.keep_up()
    case.refresh_from_db()
    assert case.shredded_at is not None
    assert (case.status, case.outcome) == (Status.CLOSED, Outcome.FULFILLED)
    assert not Subject.objects.filter(case=case).exists()
    assert DataKey.objects.get(case=case).wrapped == ""
    assert audit_check.verify().problem is None


def test_version_that_held_the_person_does_not_come_back_into_force() -> None:
    case, _ = _closed()
    former = DatasetVersion.objects.get(state=VersionState.FORMER)
    assert former.digest in registry.taken_from(case)
    shredding.shred(case, actor=SYSTEM, reason="test")
    with pytest.raises(store.StoreError, match=f"what case {case.reference} took out"):
        store.get_dataset(former.digest)


def test_crash_between_commit_and_files_is_finished_later(monkeypatch) -> None:
    case, _ = _closed()
    key = str(case.data_key.pk)
    with monkeypatch.context() as crash:
        crash.setattr(shredding, "_after", lambda case: None)
        shredding.shred(case, actor=SYSTEM, reason="test")
    assert store.sealed_under({key})
    upkeep.keep_up()
    assert not store.sealed_under({key})


def test_mail_files_of_the_case_are_removed(settings, tmp_path: Path) -> None:
    settings.MAIL_DIR = tmp_path
    case, _ = _closed()
    own, other = tmp_path / "1.log", tmp_path / "2.log"
    own.write_text(f"Subject: [{case.reference}] Your one-time code\nTo: malee@home.example\n")
    other.write_text("Subject: [L2026-0000-0000] Your one-time code\n")
    shredding.shred(case, actor=SYSTEM, reason="test")
    assert [path.exists() for path in (own, other)] == [False, True]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="files of SQLite")
def test_nothing_of_the_person_rests_in_database_and_log_files(tmp_path: Path) -> None:
    """Deleted rows, as SQLite leaves them on disk, with the settings of the product."""
    path = tmp_path / "db.sqlite3"
    with sqlite3.connect(path) as database:
        database.executescript(settings_pragmas())
        database.execute("CREATE TABLE t (v TEXT)")
        database.executemany("INSERT INTO t VALUES (?)", [(f"canary-{n:06}",) for n in range(2000)])
    with sqlite3.connect(path) as database:
        database.executescript(settings_pragmas())
        database.execute("DELETE FROM t")
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        left = b"".join(file.read_bytes() for file in tmp_path.glob("db.sqlite3*"))
    database.close()
    assert b"canary-" not in left


def settings_pragmas() -> str:
    from config import settings as configured

    return configured.DATABASES["default"]["OPTIONS"]["init_command"]


def test_scrub_database_runs_on_this_database(capsys) -> None:
    call_command("scrub_database")
    assert "was scrubbed" in capsys.readouterr().out


def test_keep_up_after_a_restore(capsys) -> None:
    _closed()
    call_command("keep_up")
    assert "Done." in capsys.readouterr().out


def test_export_is_checked_without_us(tmp_path: Path, capsys) -> None:
    case, _ = _closed()
    audit.checkpoint()
    with transaction.atomic():
        audit.record("case.read", actor=SYSTEM, case=case)
    call_command("export_log", tmp_path / "log")
    older, newer = sorted((tmp_path / "log").glob("*.checkpoint"))
    grown = (tmp_path / f"log/{older.stem}-{newer.stem}.path").read_bytes()
    lines = check_consistency(older.read_bytes(), newer.read_bytes(), grown, audit.verifier_key())
    assert lines
    with pytest.raises(ProofError):
        check_consistency(older.read_bytes(), newer.read_bytes(), b"", audit.verifier_key())
    command = capsys.readouterr().out.splitlines()[1]
    done = subprocess.run(
        [sys.executable, "-I", *shlex.split(command)[1:]],
        cwd=tmp_path / "log",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    leaves = tmp_path / "log/leaves.jsonl"
    leaves.write_text(leaves.read_text(encoding="utf-8").replace("received", "received ", 1))
    done = subprocess.run(
        [sys.executable, "-I", *shlex.split(command)[1:]],
        cwd=tmp_path / "log",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    with pytest.raises(CommandError, match="not empty"):
        call_command("export_log", tmp_path / "log")


def test_role_that_may_not_is_refused_by_retention() -> None:
    case, _ = _closed()
    officer = factories.actor(Role.OFFICER, case.organisation)
    with pytest.raises(NotAllowed, match="Only Legal"):
        retention.shred_reviewed([case], actor=officer)
    assert Case.objects.get(pk=case.pk).closed_at < timezone.now()
