"""Jobs that end in every bad way: the worker lives, each fails with its reason, the next is done.

    python -m proofs.poison

One real Celery worker whose heavy child process is `proofs.poison_engine`. After each poisonous
search comes an ordinary one.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from proofs import installations
from proofs.installations import WORKER, Installation, kill, wait_until

PATIENCE_SECONDS = 120
# The person's name, and what the reason of the failed job must say.
EXPECTED = {
    "Exhausting Memory": "more memory than its limit",
    "Memory Error": "more memory than its limit",
    "Segmentation Fault": "SIGSEGV",
    "Hanging Forever": "time limit",
    "Abort Called": "SIGABRT",
    "Killed Outside": "SIGKILL",
}


def _work() -> None:
    """In the installation: be the worker, with the other engine."""
    from celery.__main__ import main

    from compliance import child

    child.ENGINE = "proofs.poison_engine"
    sys.argv = ["celery", *WORKER[2:]]
    main()


def _file(name: str) -> None:
    """In the installation: a case under this name whose search is due."""
    import django

    django.setup()
    from compliance import jobs
    from compliance.models import Case, JobKind, Organisation
    from compliance.steps import step1_intake

    office, _ = Organisation.objects.get_or_create(
        slug="proofs", defaults={"name": "Proofs", "address": "1", "contact": "dpo@proofs.example"}
    )
    request = step1_intake.Request(kind="removal", name=name, contact="somebody@mail.example")
    case, _ = step1_intake.receive(office, request)
    jobs.start(JobKind.FIND, case=Case.objects.get(pk=case.pk))


def _last(place: Installation) -> dict[str, Any]:
    found: dict[str, Any] = place.ask("proofs.judge")["jobs"][-1]
    return found


def _ended(place: Installation, name: str) -> dict[str, Any]:
    """The job of a search under this name, once it is over."""
    place.run("-m", "proofs.poison", "file", name)
    wait_until(
        lambda: _last(place)["state"] in ("done", "failed"), PATIENCE_SECONDS, f"search for {name}"
    )
    return _last(place)


def measure() -> dict[str, Any]:
    """Every poison and the job after it."""
    folder = Path(tempfile.mkdtemp()) / "installation"
    place = installations.make(
        "sqlite-filesystem", folder, LETHE_JOB_TIME_LIMIT="4", LETHE_JOB_MEMORY_GIB="1"
    )
    worker = place.start("-m", "proofs.poison", "work")
    kinds = {}
    try:
        for name, reason in EXPECTED.items():
            poisoned, next_one = _ended(place, name), _ended(place, "Nobody Known")
            kinds[name] = {
                "failed with its reason": poisoned["state"] == "failed"
                and reason in poisoned["error"],
                "attempts": poisoned["attempt"],
                "reason": poisoned["error"],
                "next job done": next_one["state"] == "done",
                "worker alive": worker.poll() is None,
            }
    finally:
        kill(worker)
        place.remove()
    return {"kinds": kinds}


def main() -> int:
    """Run it, print the table, keep the figures."""
    if sys.argv[1:2] in (["work"], ["file"]):
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
        _work() if sys.argv[1] == "work" else _file(sys.argv[2])
        return 0
    result = measure()
    checks = ("failed with its reason", "next job done", "worker alive")
    held = 0
    for name, row in result["kinds"].items():
        good = all(row[check] for check in checks)
        held += good
        sys.stdout.write(
            f"{name:20} {'held' if good else 'NOT HELD':9} attempts {row['attempts']}: "
            f"{row['reason']}\n"
        )
    result |= {"held": held, "of": len(EXPECTED)}
    sys.stdout.write(f"{held} of {len(EXPECTED)} held\n")
    installations.keep("poison", result)
    return 0 if held == len(EXPECTED) else 1


if __name__ == "__main__":
    sys.exit(main())
