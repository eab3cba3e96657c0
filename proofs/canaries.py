"""A full demonstration, then a shredding: nothing of the three people is left in any file.

    python -m proofs.canaries

The demonstration runs as `make demo` does, with its worker's output, temporary files and cache in
the installation's folder, so that the scan meets them. The strings are searched before the
shredding as well: where nothing could be found nothing would be shown. Then the same on a
PostgreSQL cluster of our own, data folder included, before and after `scrub_database`; there the
strings are the wrapped keys and the blind indexes, which rest in the tables as they are.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from proofs import installations
from proofs.installations import ROOT, Installation, keep
from proofs.postgres_cluster import Cluster


def _shred() -> None:
    """In the installation: print the people's strings and wrapped keys, then shred every case."""
    import django

    django.setup()
    from compliance import shredding
    from compliance.models import Case
    from compliance.permissions import SYSTEM

    cases = list(Case.objects.filter(shredded_at=None).order_by("pk"))
    found: set[str] = set()
    for case in cases:
        details: dict[str, str] = case.subject.details
        on_file: dict[str, Any] = case.subject.on_file or {}
        found |= {details["name"], details["contact"], details["statement"]}
        found |= {on_file["name"], on_file["native_name"], on_file["email"]}
        found |= {on_file["facts"].get("telephone", ""), case.data_key.wrapped}
        found |= {case.subject.name_index, case.subject.contact_index}
    sys.stdout.write(json.dumps(sorted(text for text in found if text)) + "\n")
    if sys.argv[2:] == ["--only-tell"]:
        return
    for case in cases:
        shredding.shred(case, actor=SYSTEM, reason="proof")


def _finish() -> None:
    """In the installation of `proofs.scene`: write the documents and close the case."""
    import django

    django.setup()
    from compliance import jobs
    from compliance.models import Case, Job, Role, User
    from compliance.permissions import staff
    from compliance.steps import documentation

    jobs.run(Job.objects.get(state="ready").pk)
    documentation.close(Case.objects.get(), actor=staff(User.objects.get(role=Role.OFFICER)))


def _scan(place: Installation, canaries: list[str], *more: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "manage.py", "scan_residues", *more],
        cwd=ROOT,
        env=place.env,
        input="\n".join(canaries) + "\n",
        text=True,
        capture_output=True,
        check=False,
    )
    if not done.stdout:
        raise RuntimeError(done.stderr)
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    surfaces = {line[2]: int(line[0]) for line in lines[:-1]}
    return {"hits": int(lines[-1][0]), "surfaces": surfaces}


def measure(folder: Path) -> dict[str, Any]:
    """Demonstration, scan, shredding, scan, log."""
    for name in ("tmp", "cache", "log"):
        (folder / name).mkdir(parents=True)
    places = {"TMPDIR": str(folder / "tmp"), "XDG_CACHE_HOME": str(folder / "cache")}
    place = installations.make("sqlite-filesystem", folder, LETHE_JOB_LEASE="30", **places)
    out = folder.with_name("delivered")
    out.mkdir()
    with (folder / "log/all.log").open("w") as log:
        subprocess.run(
            [sys.executable, "manage.py", "demo", "--out", str(out)],
            cwd=ROOT,
            env=place.env | {"LETHE_LOG_LEVEL": "DEBUG"},
            stdout=log,
            stderr=log,
            check=True,
            timeout=900,
        )
    canaries = json.loads(place.run("-m", "proofs.canaries", "shred", "--only-tell"))
    before = _scan(place, canaries)
    place.run("-m", "proofs.canaries", "shred")
    after = _scan(place, canaries)
    return {
        "canaries": len(canaries),
        "before": before,
        "after": after,
        "log verifies": "unbroken" in place.run("manage.py", "verify_audit"),
    }


def measure_postgresql(folder: Path) -> dict[str, Any]:
    """A closed case on PostgreSQL: its hits in the files of the server, before and after."""
    (folder / "tmp").mkdir(parents=True)
    with Cluster() as cluster:
        cluster.ask("postgres", "ALTER SYSTEM SET wal_recycle = off")
        cluster.ask("postgres", "SELECT pg_reload_conf()")
        place = installations.make(
            "sqlite-filesystem",
            folder,
            DATABASE_URL=cluster.url(cluster.new()),
            BROKER_URL="memory://",
            TMPDIR=str(folder / "tmp"),
        )
        place.run("-m", "proofs.scene", "document")
        place.run("-m", "proofs.canaries", "finish")
        canaries = json.loads(place.run("-m", "proofs.canaries", "shred", "--only-tell"))
        server = ("--folder", str(cluster.folder))
        hits = {"before": _scan(place, canaries, *server)["hits"]}
        place.run("-m", "proofs.canaries", "shred")
        hits["after the shredding"] = _scan(place, canaries, *server)["hits"]
        place.run("manage.py", "scrub_database")
        hits["after scrub_database"] = _scan(place, canaries, *server)["hits"]
        return hits


def main() -> int:
    """Run it, print the table, keep the figures."""
    if sys.argv[1:2] in (["shred"], ["finish"]):
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
        _shred() if sys.argv[1] == "shred" else _finish()
        return 0
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder) / "installation")
        result["postgresql"] = measure_postgresql(Path(folder) / "postgresql")
    for surface, hits in result["after"]["surfaces"].items():
        sys.stdout.write(f"{hits:5} hits after the shredding  {surface}\n")
    sys.stdout.write(
        f"{result['canaries']} strings: {result['before']['hits']} hits before, "
        f"{result['after']['hits']} after; log verifies: {result['log verifies']}\n"
    )
    for moment, hits in result["postgresql"].items():
        sys.stdout.write(f"PostgreSQL, {moment}: {hits} hits\n")
    keep("canaries", result)
    clean = result["after"]["hits"] == result["postgresql"]["after scrub_database"] == 0
    return 0 if clean and result["log verifies"] else 1


if __name__ == "__main__":
    sys.exit(main())
