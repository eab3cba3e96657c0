"""A full demonstration, then a shredding: nothing of the three people is left in any file.

    python -m proofs.canaries

The demonstration runs as `make demo` does, with its worker's output, temporary files and cache in
the installation's folder, so that the scan meets them. The strings are searched before the
shredding as well: where nothing could be found nothing would be shown.
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
    sys.stdout.write(json.dumps(sorted(text for text in found if text)) + "\n")
    if sys.argv[2:] == ["--only-tell"]:
        return
    for case in cases:
        shredding.shred(case, actor=SYSTEM, reason="proof")


def _scan(place: Installation, canaries: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "manage.py", "scan_residues"],
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


def main() -> int:
    """Run it, print the table, keep the figures."""
    if sys.argv[1:2] == ["shred"]:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
        _shred()
        return 0
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder) / "installation")
    for surface, hits in result["after"]["surfaces"].items():
        sys.stdout.write(f"{hits:5} hits after the shredding  {surface}\n")
    sys.stdout.write(
        f"{result['canaries']} strings: {result['before']['hits']} hits before, "
        f"{result['after']['hits']} after; log verifies: {result['log verifies']}\n"
    )
    keep("canaries", result)
    return 0 if result["after"]["hits"] == 0 and result["log verifies"] else 1


if __name__ == "__main__":
    sys.exit(main())
