"""Judge an installation after faults: is every job done, every effect there once, the log whole?

    python -m proofs.judge

Run inside the installation's environment. Prints one JSON object; `intact` sums it up.
"""

from __future__ import annotations

import collections
import json
import os
import sys
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

# What each kind of job leaves in the log, once for each job that is done.
EFFECTS = {
    "find": ("targets.found",),
    "apply": ("plan.frozen", "change.applied"),
    "verify": ("change.verified", "version.promoted"),
    "document": ("document.drafted", "document.drafted", "document.made", "document.made"),
}


def judge() -> dict[str, Any]:
    """States, effects, log and store of this installation."""
    from compliance import audit_check
    from compliance.models import AuditEvent, Job, JobStep

    jobs = list(Job.objects.order_by("created_at"))
    done = [job for job in jobs if job.state == "done"]
    wanted = collections.Counter(effect for job in done for effect in EFFECTS[job.kind])
    found = collections.Counter(
        AuditEvent.objects.filter(action__in=wanted).values_list("action", flat=True)
    )
    steps = collections.Counter(JobStep.objects.values_list("job", "name"))
    result: dict[str, Any] = {
        "jobs": [
            {"kind": job.kind, "state": job.state, "attempt": job.attempt, "error": job.error}
            for job in jobs
        ],
        "duplicates": sum((found - wanted).values()) + sum(n - 1 for n in steps.values()),
        "missing": sum((wanted - found).values()),
        "log": audit_check.verify().problem,
        "unreadable": _unreadable(),
    }
    result["intact"] = (
        not result["duplicates"]
        and not result["missing"]
        and result["log"] is None
        and not result["unreadable"]
    )
    return result


def _unreadable() -> int:
    """Artefacts, datasets and documents that a row names and that do not read as they should."""
    from compliance import store
    from compliance.envelope import SealError
    from compliance.models import Application, DatasetVersion, Document, Target

    wanted = [
        *((store.get, digest) for digest in Target.objects.values_list("evidence", flat=True)),
        *((store.get, digest) for digest in Application.objects.values_list("plan", flat=True)),
        *((store.get, digest) for digest in Document.objects.values_list("artefact", flat=True)),
        *(
            (store.get_dataset, digest)
            for digest in DatasetVersion.objects.exclude(state="discarded").values_list(
                "digest", flat=True
            )
        ),
    ]
    bad = 0
    for read, digest in wanted:
        try:
            read(digest)
        except (store.StoreError, SealError):
            bad += 1
    return bad


def main() -> int:
    """Print the judgement."""
    django.setup()
    sys.stdout.write(json.dumps(judge()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
