"""Time the log of record from inside: python -m proofs.append_inside time|fill|verify N [FILE].

Run inside an installation's environment that has a case. Prints one JSON object.
"""

from __future__ import annotations

import cProfile
import hashlib
import io
import json
import os
import pstats
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django

if TYPE_CHECKING:
    from compliance.models import Case

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# So many events in one transaction when only their number matters.
BATCH = 2000
TOP = 12
_PLAIN = (
    "CREATE TABLE proof_plain (seq bigint PRIMARY KEY, case_id bigint, at varchar(40), "
    "action varchar(40), leaf text, digest varchar(64), node varchar(64))"
)
_INSERT = "INSERT INTO proof_plain VALUES (%s, %s, %s, %s, %s, %s, %s)"


def _facts(number: int) -> dict[str, Any]:
    """What the log says of a document, the most frequent large event."""
    return {"kind": "report", "sha256": hashlib.sha256(str(number).encode()).hexdigest()}


def _figures(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        "median_ms": round(statistics.median(ordered) * 1000, 3),
        "p95_ms": round(ordered[int(len(ordered) * 0.95)] * 1000, 3),
    }


def time_appends(case: Case, count: int) -> dict[str, Any]:
    """Appends each in a transaction of its own, in turns with plain rows of the same size."""
    from django.db import connection, transaction

    from compliance import audit
    from compliance.permissions import SYSTEM

    with connection.cursor() as cursor:
        cursor.execute(_PLAIN)
    whole, inside, plain, plain_inside = [], [], [], []
    for number in range(count):
        begun = time.perf_counter()
        with transaction.atomic():
            in_transaction = time.perf_counter()
            event = audit.record("document.made", actor=SYSTEM, case=case, **_facts(number))
            inside.append(time.perf_counter() - in_transaction)
        whole.append(time.perf_counter() - begun)
        at = event.at.isoformat()
        row: list[Any] = [
            event.seq,
            case.pk,
            at,
            event.action,
            event.leaf,
            event.digest,
            event.node,
        ]
        begun = time.perf_counter()
        with transaction.atomic(), connection.cursor() as cursor:
            in_transaction = time.perf_counter()
            cursor.execute(_INSERT, row)
            plain_inside.append(time.perf_counter() - in_transaction)
        plain.append(time.perf_counter() - begun)
    ratio = statistics.median(whole) / statistics.median(plain)
    return {
        "appends": count,
        "append": _figures(whole),
        "append_without_commit": _figures(inside),
        "plain_insert": _figures(plain),
        "plain_insert_without_commit": _figures(plain_inside),
        "ratio": round(ratio, 2),
    }


def fill(case: Case, size: int) -> dict[str, Any]:
    """Append until the log holds so many events, or a minute has passed."""
    from django.db import transaction

    from compliance import audit
    from compliance.permissions import SYSTEM

    begun = time.monotonic()
    while (now := audit.size()) < size and time.monotonic() - begun < 60:
        with transaction.atomic():
            for number in range(now, min(size, now + BATCH)):
                audit.record("document.made", actor=SYSTEM, case=case, **_facts(number))
    return {"size": audit.size(), "seconds": round(time.monotonic() - begun, 1)}


def verify(runs: int, leaves: Path) -> dict[str, Any]:
    """Time the check of the whole log, say where its time goes, and export its leaves."""
    from compliance import audit, audit_check
    from compliance.models import AuditEvent

    note = audit.checkpoint()
    seconds, busy = [], []
    for _ in range(runs):
        begun, own = time.perf_counter(), time.process_time()
        found = audit_check.verify()
        seconds.append(round(time.perf_counter() - begun, 3))
        busy.append(round(time.process_time() - own, 3))
        if found.problem is not None:
            raise RuntimeError(found.problem)
    profile = cProfile.Profile()
    profile.runcall(audit_check.verify)
    told = io.StringIO()
    pstats.Stats(profile, stream=told).sort_stats("tottime").print_stats(TOP)
    lines = told.getvalue().splitlines()
    start = next(at for at, line in enumerate(lines) if "tottime" in line)
    with leaves.open("w", encoding="utf-8", newline="\n") as file:
        for leaf in AuditEvent.objects.order_by("seq").values_list("leaf", flat=True).iterator():
            file.write(leaf + "\n")
    leaves.with_suffix(".checkpoint").write_text(note, encoding="utf-8")
    return {
        "leaves": found.size,
        "runs": seconds,
        "best": min(seconds),
        "median": statistics.median(seconds),
        # Of the processor alone: what others do on the machine does not lengthen it.
        "processor": min(busy),
        "profile": [line for line in lines[start:] if line.strip()][: TOP + 1],
    }


def main() -> int:
    """Do what is asked."""
    django.setup()
    from compliance.models import Case

    what, number = sys.argv[1], int(sys.argv[2])
    if what == "time":
        result = time_appends(Case.objects.get(), number)
    elif what == "fill":
        result = fill(Case.objects.get(), number)
    else:
        result = verify(number, Path(sys.argv[3]))
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
