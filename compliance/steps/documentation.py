"""Documentation accompanies every step and ends the case: report, letter, closure."""

from __future__ import annotations

import base64
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from compliance import audit, evidence, flow, letters, notify, registry, store
from compliance.models import Case, Document, DocumentKind, Job
from compliance.permissions import SYSTEM, Actor
from compliance.statuses import Status


def prepare(job: Job) -> dict[str, Any]:
    """The evidence record and the letter, to be rendered and signed."""
    case = job.case
    gathered = evidence.gather(case)
    return {
        "operation": "document",
        "reference": case.reference,
        "organisation": case.organisation.name,
        "evidence": gathered,
        "letter": letters.compose(case, gathered),
        "keys": str(settings.KEY_DIR / "signing"),
    }


def record(job: Job, result: dict[str, Any]) -> None:
    """Keep the signed PDFs, sealed, with the hash of each."""
    case = job.case
    for kind in DocumentKind.values:
        made = result[kind]
        Document.objects.update_or_create(
            case=case,
            kind=kind,
            defaults={
                "file_name": f"{case.reference}-{kind}.pdf",
                "artefact": store.put(base64.b64decode(made["pdf"])),
                "sha256": made["sha256"],
                "signature_valid": made["signature_valid"],
                "made_at": timezone.now(),
            },
        )
        audit.record("document.made", actor=SYSTEM, case=case, kind=kind, sha256=made["sha256"])


def failed(job: Job, reason: str) -> None:
    """The case stays; the officer may have the documents written again."""


@transaction.atomic
def close(case: Case, *, actor: Actor) -> Case:
    """Send the letter, stop the clocks, close the case. Raises NotAllowed with the reason."""
    now = timezone.now()
    case.clocks.filter(met_at__isnull=True).update(met_at=now)
    Document.objects.filter(case=case, kind=DocumentKind.LETTER).update(sent_at=now)
    flow.move(case, to=Status.CLOSED, actor=actor, reason=case.outcome)
    case.closed_at = now
    case.save(update_fields=["closed_at"])
    letter = case.documents.get(kind=DocumentKind.LETTER)
    audit.record("document.sent", actor=actor, case=case, sha256=letter.sha256)
    notify.letter_ready(case)
    transaction.on_commit(lambda: registry.purge(case))
    return case


def download(document: Document, *, actor: Actor) -> bytes:
    """The PDF; every download is an event of the log."""
    with transaction.atomic():
        audit.record(
            "document.downloaded",
            actor=actor,
            case=document.case,
            kind=document.kind,
            sha256=document.sha256,
        )
    return store.get(document.artefact)
