"""Read the version in force again and again, as an inference server would.

    python -m proofs.promotion_reader LINK STOP

Resolves LINK once for each read, hashes every file of the folder it led to and compares with the
folder's name. Ends when the file STOP is there; prints what it saw as JSON.
"""

from __future__ import annotations

import collections
import hashlib
import json
import sys
from pathlib import Path


def digest(folder: Path) -> str:
    """What a version's folder must be named by, computed here and not by the product."""
    files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "manifest.json"
    }
    canonical = json.dumps(files, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def read(link: Path) -> tuple[str, str]:
    """How one read went, and the name of the version."""
    try:
        folder = link.parent / link.readlink()
    except FileNotFoundError:
        return "missing", ""
    try:
        held = digest(folder) == folder.name
    except FileNotFoundError:
        return "dangling", folder.name
    return "held" if held else "torn", folder.name


def main() -> int:
    """Read until told to stop."""
    link, stop = Path(sys.argv[1]), Path(sys.argv[2])
    seen: collections.Counter[str] = collections.Counter()
    versions: collections.Counter[str] = collections.Counter()
    changes, last = 0, ""
    while not stop.exists():
        how, version = read(link)
        seen[how] += 1
        versions[version] += 1
        changes += version != last
        last = version
    result = {
        **{how: seen[how] for how in ("held", "torn", "dangling", "missing")},
        "reads": seen.total(),
        "versions": len(versions),
        "changes_seen": changes,
    }
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
