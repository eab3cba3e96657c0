"""Documentation accompanies every step and ends the case: report, letter, closure."""

from __future__ import annotations

import base64
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from compliance import audit, evidence, flow, letters, notify, registry, store, vault
from compliance.jobs import Step
from compliance.models import AuditEvent, Case, Document, DocumentKind, Job
from compliance.permissions import SYSTEM, Actor
from compliance.statuses import Status
from reports.evidence import canonical_json, digest


def draft(job: Job) -> dict[str, Any]:
    """The evidence record and the letter as they stand now, kept sealed for the next step."""
    case = job.case
    gathered = evidence.gather(case)
    records = {"report": gathered, "letter": letters.compose(case, gathered)}
    return {
        "artefact": store.put_json(records, vault.key_of(case)),
        "digests": {kind: digest(canonical_json(record)) for kind, record in records.items()},
    }


def log_draft(job: Job, result: dict[str, Any]) -> str:
    """What the documents will say is in the log before they exist: each carries the proof of it."""
    for kind, sha256 in result["digests"].items():
        audit.record(
            "document.drafted", actor=SYSTEM, case=job.case, kind=kind, evidence_sha256=sha256
        )
    artefact: str = result["artefact"]
    return artefact


def prepare(job: Job) -> dict[str, Any]:
    """Both records with their proofs, to be rendered and signed. Raises audit.LogBroken."""
    case = job.case
    records = store.get_json(job.steps.get(name="draft").artefact)
    return {
        "operation": "document",
        "reference": case.reference,
        "organisation": case.organisation.name,
        "records": records,
        "proofs": {
            kind: audit.proof(_event(case, "document.drafted", kind=kind)) for kind in records
        },
        "keys": str(settings.KEY_DIR / "signing"),
    }


def _event(case: Case, action: str, **facts: str) -> AuditEvent:
    """The newest event of the case with these facts. Raises AuditEvent.DoesNotExist."""
    found = case.events.filter(action=action)
    for name, value in facts.items():
        found = found.filter(leaf__contains=f'"{name}":{audit.canonical(value)}')
    return found.latest("seq")


def record(job: Job, result: dict[str, Any]) -> None:
    """Keep the signed PDFs, sealed, with the hash of each.

    The letter names the person, so it goes with the case's key; the report outlives it.
    """
    case = job.case
    keys = {DocumentKind.REPORT: vault.house_key(), DocumentKind.LETTER: vault.key_of(case)}
    for kind, key in keys.items():
        made = result[kind]
        Document.objects.update_or_create(
            case=case,
            kind=kind,
            defaults={
                "file_name": f"{case.reference}-{kind}.pdf",
                "artefact": store.put(base64.b64decode(made["pdf"]), key),
                "sha256": made["sha256"],
                "signature_valid": made["signature_valid"],
                "made_at": timezone.now(),
            },
        )
        audit.record(
            "document.made", actor=SYSTEM, case=case, kind=kind.value, sha256=made["sha256"]
        )


def failed(job: Job, reason: str) -> None:
    """The case stays; the officer may have the documents written again."""


@transaction.atomic
def close(case: Case, *, actor: Actor) -> Case:
    """Send the letter, stop the clocks, close the case. Raises NotAllowed with the reason."""
    case = flow.locked(case)
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


def proof(document: Document, *, actor: Actor) -> str:
    """The C2SP tlog-proof of the file as delivered: its SHA-256 stands in the log."""
    with transaction.atomic():
        audit.record(
            "document.proved",
            actor=actor,
            case=document.case,
            kind=document.kind,
            sha256=document.sha256,
        )
    return audit.proof(_event(document.case, "document.made", sha256=document.sha256))


STEPS = (Step("draft", log_draft, draft, heavy=False), Step("write", record, prepare))
