"""Append to the log of record, in the same transaction as the act it records.

Leaves are canonical JSON without personal data: references, roles, hashes, counts.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction
from django.utils import timezone

from .models import AuditEvent

if TYPE_CHECKING:
    from .models import Case
    from .permissions import Actor

# Dotted names, stored and never translated; the label is what a person reads.
ACTIONS = {
    "case.received": "Request received",
    "case.moved": "Case moved",
    "case.withdrawn": "Request withdrawn",
    "identity.code_sent": "One-time code sent",
    "identity.code_failed": "Wrong code entered",
    "identity.code_matched": "Code entered correctly",
    "identity.confirmed": "Identity confirmed",
    "subject.revealed": "Personal data shown to staff",
    "targets.found": "Targets found",
    "measure.proposed": "Measure proposed",
    "measure.approved": "Measure approved",
    "measure.returned": "Measure returned",
    "refusal.proposed": "Refusal proposed",
    "refusal.approved": "Refusal approved",
    "refusal.returned": "Refusal returned",
    "plan.frozen": "Verification plan frozen",
    "change.applied": "Change applied",
    "change.verified": "Change verified",
    "version.promoted": "Version promoted",
    "version.discarded": "Candidate version discarded",
    "version.rolled_back": "Version rolled back",
    "document.made": "Document made",
    "document.sent": "Document sent",
    "document.downloaded": "Document downloaded",
    "job.failed": "Job failed",
    "job.restarted": "Job started again",
    "model.registered": "Model registered",
    "dataset.registered": "Dataset registered",
}

GENESIS = hashlib.sha256(b"lethe audit log").hexdigest()
# Any constant will do: PostgreSQL serialises appends on it.
_APPEND_LOCK = 7_134_002


def record(action: str, *, actor: Actor, case: Case | None = None, **facts: Any) -> AuditEvent:
    """Append one event. Raises KeyError for an action that is not registered.

    Must run inside the transaction of the act: the event and the act stand or fall together.
    """
    if action not in ACTIONS:
        raise KeyError(f"Unregistered audit action {action!r}")
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("audit.record needs a transaction")
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_APPEND_LOCK])
    last = AuditEvent.objects.order_by("-seq").first()
    seq = 0 if last is None else last.seq + 1
    at = timezone.now()
    leaf = canonical(
        {
            "seq": seq,
            "at": at.isoformat(timespec="microseconds"),
            "action": action,
            "actor": actor.reference,
            "case": case.reference if case is not None else None,
            "facts": facts,
        }
    )
    digest = leaf_hash(leaf)
    return AuditEvent.objects.create(
        seq=seq,
        case=case,
        at=at,
        action=action,
        leaf=leaf,
        digest=digest,
        chain=chain_hash(GENESIS if last is None else last.chain, digest),
    )


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def leaf_hash(leaf: str) -> str:
    """RFC 6962 §2.1: SHA-256 over 0x00 and the leaf."""
    return hashlib.sha256(b"\x00" + leaf.encode()).hexdigest()


def chain_hash(previous: str, digest: str) -> str:
    """Each event commits to all before it."""
    return hashlib.sha256(bytes.fromhex(previous) + bytes.fromhex(digest)).hexdigest()


def first_broken() -> int | None:
    """The sequence number of the first event that does not fit, or None when all do."""
    chain = GENESIS
    for expected, event in enumerate(AuditEvent.objects.order_by("seq").iterator()):
        chain = chain_hash(chain, leaf_hash(event.leaf))
        if (event.seq, event.digest, event.chain) != (expected, leaf_hash(event.leaf), chain):
            return expected
    return None
