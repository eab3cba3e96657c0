"""Append to the log of record, in the same transaction as the act it records; prove and verify it.

Leaves are canonical JSON without personal data: references, roles, hashes, counts, commitments
(vault.commitment). They are the leaves of a Merkle tree (RFC 6962). Signed checkpoints of the tree
are kept as files outside of the database (C2SP tlog-checkpoint), and every document that leaves
the house carries one with a proof: whoever holds one can see that the log was changed later.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from reports.transparency_log import (
    Checkpoint,
    ProofError,
    VerifierKey,
    leaf_hash,
    open_checkpoint,
)

from . import checkpoint as notes
from . import merkle
from .key_files import KeyUnavailable, read_private, write_private
from .log_actions import ACTIONS
from .models import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from .models import Case
    from .permissions import Actor

# Any constant will do: PostgreSQL serialises appends on it.
_APPEND_LOCK = 7_134_002


class LogBroken(Exception):
    """The log is not the one that was signed before; the message says what differs."""


# --- Append ---


def record(action: str, *, actor: Actor, case: Case | None = None, **facts: Any) -> AuditEvent:
    """Append one event. Raises KeyError for an action that is not registered.

    Must run inside the transaction of the act: the event and the act stand or fall together.
    """
    if action not in ACTIONS:
        raise KeyError(f"Unregistered audit action {action!r}")
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("audit.record needs a transaction")
    if connection.vendor == "postgresql":
        _lock(case)
    last = AuditEvent.objects.order_by("-seq").values_list("seq", "node").first()
    seq = 0 if last is None else last[0] + 1
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
    digest = leaf_hash(leaf.encode())
    return AuditEvent.objects.create(
        seq=seq,
        case=case,
        at=at,
        action=action,
        leaf=leaf,
        digest=digest.hex(),
        node=merkle.appended(seq, digest, _left_of(seq, last)).hex(),
    )


def _lock(case: Case | None) -> None:
    """Serialise appends; the case before the log, as everything that locks both does, in one go."""
    with connection.cursor() as cursor:
        if case is None:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_APPEND_LOCK])
        else:
            cursor.execute(
                "SELECT pg_advisory_xact_lock(%s) FROM "
                "(SELECT 1 FROM compliance_case WHERE id = %s FOR UPDATE) AS locked",
                [_APPEND_LOCK, case.pk],
            )


def _left_of(seq: int, last: tuple[int, str] | None) -> dict[int, bytes]:
    """The nodes that the new one joins; three times in four the last row is all that is needed."""
    wanted = set(merkle.appended_needs(seq))
    known = {} if last is None else {last[0]: bytes.fromhex(last[1])}
    return known | _nodes(wanted - known.keys()) if wanted - known.keys() else known


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def size() -> int:
    """How many events the log holds."""
    last = AuditEvent.objects.order_by("-seq").values_list("seq", flat=True).first()
    return 0 if last is None else last + 1


def _rows(wanted: Collection[int]) -> dict[int, merkle.Row]:
    found = AuditEvent.objects.filter(seq__in=wanted).values_list("seq", "digest", "node")
    rows = {s: merkle.Row(bytes.fromhex(d), bytes.fromhex(n)) for s, d, n in found}
    missing = set(wanted) - rows.keys()
    if missing:
        raise LogBroken(f"Event {min(missing)} is missing from the log.")
    return rows


def _nodes(wanted: Collection[int]) -> dict[int, bytes]:
    return {seq: row.node for seq, row in _rows(wanted).items()}


def root(of: int) -> bytes:
    """The root over the first `of` events, from the stored nodes."""
    return merkle.root(of, _nodes(merkle.root_needs(of)))


# --- Sign and prove ---


def verifier_key_text() -> str:
    """The file of the public key, to hand out (a C2SP vkey). Raises KeyUnavailable."""
    verifier_key()
    return (settings.KEY_DIR / "log/log.vkey").read_text()


def verifier_key() -> VerifierKey:
    """The public key of the log. Raises KeyUnavailable."""
    try:
        return VerifierKey.parse((settings.KEY_DIR / "log/log.vkey").read_text().strip())
    except (OSError, UnicodeDecodeError, ProofError):
        raise KeyUnavailable(
            "The public key of the log, keys/log/log.vkey, is missing or damaged. Restore it from "
            "the backup of the keys."
        ) from None


def _seed() -> bytes:
    try:
        return base64.b64decode(read_private(settings.KEY_DIR / "log/log.key"), validate=True)
    except binascii.Error:
        raise KeyUnavailable("The file keys/log/log.key is damaged. Restore it.") from None


def _path(of: int) -> Path:
    return settings.CHECKPOINT_DIR / f"{of:012d}.checkpoint"


def seen() -> list[Checkpoint]:
    """Every checkpoint this installation signed, the oldest first.

    Raises LogBroken for one that does not bear the log's signature.
    """
    verifier_key()  # whether it can be read shall not depend on there being a checkpoint
    return [_open(path) for path in sorted(settings.CHECKPOINT_DIR.glob("*.checkpoint"))]


def _open(path: Path) -> Checkpoint:
    try:
        return open_checkpoint(path.read_text(encoding="utf-8"), verifier_key())
    except (ProofError, UnicodeDecodeError):
        raise LogBroken(
            f"The checkpoint {path.name} is damaged or bears another signature. Restore it "
            "from a copy, or remove it and say so in the record."
        ) from None


def checkpoint() -> str:
    """Sign the log as it is (a C2SP signed note) and keep the note.

    Raises LogBroken instead when the log does not continue the one signed last.
    """
    # Listed before the size is read: another process may append and sign in between.
    earlier = sorted(settings.CHECKPOINT_DIR.glob("*.checkpoint"))
    # Only what is committed is signed: durable refuses to run inside another transaction.
    with transaction.atomic(durable=True):
        of = size()
        head = root(of)
        if earlier:
            _require_continuation(_open(earlier[-1]), of)
    key = verifier_key()
    note = notes.sign(_seed(), key.name, of, head)
    if not _path(of).exists():
        write_private(_path(of), note)
    return note


def _require_continuation(last: Checkpoint, of: int) -> None:
    if last.size > of:
        raise LogBroken(
            f"The log holds {of} events, but one of {last.size} was signed: events are missing, "
            "as after an old backup was restored. Nothing more is signed until that is settled."
        )
    if root(last.size) != last.root:
        raise LogBroken(f"The first {last.size} events are not those that were signed.")


def proof(event: AuditEvent) -> str:
    """A C2SP tlog-proof of one event, with a fresh checkpoint; it can be verified offline."""
    note = checkpoint()
    of = open_checkpoint(note, verifier_key()).size
    rows = _rows(merkle.inclusion_needs(event.seq, of))
    path = merkle.inclusion_path(event.seq, of, rows)
    return notes.proof_text(event.seq, path, note, event.leaf.encode())


def consistency(old: int, new: int) -> list[bytes]:
    """The hashes by which a log of `new` events is shown to continue one of `old` (RFC 6962)."""
    return merkle.consistency_path(old, new, _rows(merkle.consistency_needs(old, new)))
