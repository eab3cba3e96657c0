"""Destroy the personal data of a closed case: its key, its rows, its files; keep the record.

What stays: the case's reference, dates and outcome, the log, and the accountability report, which
names nobody. Order matters: the tombstone is durable before anything is destroyed, so that a crash
at any point, or a database restored from a backup, ends in a shredded case (`replay`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from . import audit, duties, flow, registry, store, tombstones, vault
from .models import (
    Application,
    Case,
    DataKey,
    Document,
    DocumentKind,
    KeyPurpose,
    Outcome,
    Subject,
)
from .models.sealed_field import SealedJSONField
from .permissions import SYSTEM, Actor
from .statuses import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet

log = logging.getLogger(__name__)


def shred(
    case: Case,
    *,
    actor: Actor,
    reason: str,
    allowed: Callable[[Case], object] = lambda case: None,
) -> None:
    """Destroy the personal data of a case. retention.py decides whether that may be done.

    allowed: asked once more under the lock, raises when the case may no longer be destroyed, such
    as for a hold placed meanwhile. `reason` is a short code for the log. Doing it twice is fine.
    Raises ValueError for a case that is not closed.
    """
    registry.purge(case)
    with transaction.atomic():
        case = Case.objects.select_for_update().get(pk=case.pk)
        if case.status != Status.CLOSED:
            raise ValueError("only a closed case is shredded")
        if case.shredded_at is not None:
            return
        allowed(case)
        key = DataKey.objects.filter(case=case).first()
        if key is not None:
            _bury(case, key, actor)
        rows = _delete_rows(case)
        if key is not None:
            vault.destroy(str(key.pk))
        duties.end_of(case, actor=actor)
        case.shredded_at = timezone.now()
        case.secret_digest = ""
        case.save(update_fields=["shredded_at", "secret_digest"])
        audit.record("case.shredded", actor=actor, case=case, reason=reason, rows=rows)
        transaction.on_commit(lambda: _after(case))


def _bury(case: Case, key: DataKey, actor: Actor) -> None:
    """From here on the case is destroyed, whatever becomes of this process or this database."""
    tombstones.add(
        tombstones.Tombstone(
            case=case.reference,
            organisation=case.organisation.slug,
            key=str(key.pk),
            outcome=case.outcome,
            at=timezone.now().isoformat(timespec="seconds"),
            by=actor.reference,
            versions=registry.taken_from(case),
        )
    )


def _delete_rows(case: Case) -> int:
    """Every row that says something of the person; returns how many."""
    documents = Document.objects.filter(case=case).exclude(kind=DocumentKind.REPORT)
    # What a decision led to goes before the decision: the database protects it.
    applications = Application.objects.filter(target__case=case)
    deleted = 0
    for rows in (
        applications,
        documents,
        case.decisions.all(),
        case.jobs.all(),
        case.identity_checks.all(),
        case.holds.all(),
    ):
        deleted += _delete(rows)
    return deleted + _delete(case.targets.all()) + _delete(Subject.objects.filter(case=case))


def _delete(rows: QuerySet[Any]) -> int:
    """Delete without reading what is sealed: its key has a tombstone by now."""
    sealed = [f.name for f in rows.model._meta.fields if isinstance(f, SealedJSONField)]
    return rows.defer(*sealed).delete()[0]


def _after(case: Case) -> None:
    """Files and the database's own traces; what fails here is done again by `finish`."""
    try:
        _remove_files(case)
        scrub_database()
    except OSError as error:
        log.error(
            "Files of the shredded case %s could not be removed (%s); tried again every hour.",
            case.reference,
            type(error).__name__,
        )


def _remove_files(case: Case) -> None:
    keys = DataKey.objects.filter(case=case).values_list("pk", flat=True)
    for path in store.sealed_under({str(key) for key in keys}):
        path.unlink(missing_ok=True)
    # E-mails written to files name the address; each carries the reference in its subject.
    marker = f"[{case.reference}]".encode()
    for path in settings.MAIL_DIR.glob("*.log"):
        if marker in path.read_bytes():
            path.unlink(missing_ok=True)


def scrub_database() -> None:
    """Remove what deleted rows leave in the write-ahead log of SQLite.

    Deleted content is zeroed in the file itself (PRAGMA secure_delete, config/settings.py).
    PostgreSQL keeps dead rows until a full vacuum, which `manage.py scrub_database` does.
    """
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            if cursor.fetchone()[0]:
                log.info("The write-ahead log is in use; it is emptied within the hour.")


def replay() -> int:
    """Shred again every case that a tombstone names and the database still holds.

    That is so after a backup was restored, or a crash in the middle. Returns how many.
    """
    stones = {
        stone.case: stone for stone in tombstones.all_of_them() if stone.purpose == KeyPurpose.CASE
    }
    back = Case.objects.filter(reference__in=stones, shredded_at__isnull=True)
    for case in back:
        stone = stones[case.reference]
        with transaction.atomic():
            # A candidate that came back with the case would keep its model from every later change.
            registry.discard_candidates(case)
            flow.end_restored(case, outcome=Outcome(stone.outcome))
        shred(case, actor=SYSTEM, reason=f"tombstone, decided by {stone.by}")
    return len(back)


def finish() -> None:
    """Remove files that a crash left after their case was shredded or their duty ended."""
    ended = (KeyPurpose.CASE, KeyPurpose.DUTY)
    destroyed = DataKey.objects.filter(purpose__in=ended, destroyed_at__isnull=False)
    keys = {str(pk) for pk in destroyed.values_list("pk", flat=True)}
    left = store.sealed_under(keys)
    for path in left:
        path.unlink(missing_ok=True)
    if left:
        log.info("%d files of shredded cases and ended duties were removed.", len(left))
    if keys:
        scrub_database()
