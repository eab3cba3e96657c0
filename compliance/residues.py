"""Search everything an installation leaves on disk for given strings, in the forms they may take.

A deletion product has to show that nothing of a person is left in its own files: database and
write-ahead log, store, broker, mail, logs, temporary files, caches. What is encrypted or
compressed is searched as the bytes it is.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import ahocorasick_rs
from django.conf import settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHORTEST = 6  # bytes; anything shorter is found everywhere by chance
BLOCK = 1 << 22


@dataclass
class Surface:
    """One place that was searched."""

    name: str
    files: int = 0
    size: int = 0
    hits: int = 0
    unread: int = 0


class CanaryError(Exception):
    """The strings given cannot be searched for; the message says why."""


def forms(canary: str) -> set[bytes]:
    """The byte sequences that a string may rest as, each in lower case."""
    plain = canary.encode()
    found = {
        plain,
        canary.encode("utf-16-le"),
        canary.encode("utf-16-be"),
        json.dumps(canary)[1:-1].encode(),
        quote(canary).encode(),
        "".join(f"={byte:02X}" if byte > 126 else chr(byte) for byte in plain).encode(),
        plain.hex().encode(),
    }
    lowered = {form.lower() for form in found}
    return lowered | {form.lower() for form in _in_base64(plain)}


def _in_base64(plain: bytes) -> Iterator[bytes]:
    """The part of base64 that does not depend on what stands around the string, at each offset."""
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + plain)
        first = (8 * shift + 5) // 6
        last = (8 * (shift + len(plain))) // 6
        yield encoded[first:last]


def searcher(canaries: Sequence[str]) -> ahocorasick_rs.BytesAhoCorasick:
    """What finds every form of every string in one pass. Raises CanaryError."""
    short = [canary for canary in canaries if len(canary.encode()) < SHORTEST]
    if short or not canaries:
        raise CanaryError(f"Give strings of at least {SHORTEST} bytes, one a line.")
    wanted = sorted({form for canary in canaries for form in forms(canary)})
    return ahocorasick_rs.BytesAhoCorasick(wanted)


def surfaces(extra: Sequence[Path] = ()) -> dict[str, list[Path]]:
    """The places to search by name: every folder of the installation, temporary files, caches."""
    var = settings.VAR_DIR
    inside = {
        path.name: [path] for path in sorted(var.iterdir()) if path.is_dir() and path.name != "keys"
    }
    files = [path for path in sorted(var.iterdir()) if path.is_file()]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return (
        {"database and other files": files}
        | inside
        | {"keys": [var / "keys"], "temporary files": [Path(tempfile.gettempdir())]}
        | ({"cache": [cache]} if cache.is_dir() else {})
        | {str(path): [path] for path in extra}
    )


def scan(canaries: Sequence[str], extra: Sequence[Path] = ()) -> list[Surface]:
    """Search every surface. A file that is seen twice is searched under its first name."""
    search = searcher(canaries)
    overlap = max(len(form) for canary in canaries for form in forms(canary))
    seen: set[tuple[int, int]] = set()
    return [
        _scan_one(name, places, search, overlap, seen) for name, places in surfaces(extra).items()
    ]


def _scan_one(
    name: str,
    places: list[Path],
    search: ahocorasick_rs.BytesAhoCorasick,
    overlap: int,
    seen: set[tuple[int, int]],
) -> Surface:
    surface = Surface(name)
    for path in _files(places):
        try:
            found = path.stat()
            if (found.st_dev, found.st_ino) in seen:
                continue
            seen.add((found.st_dev, found.st_ino))
            surface.hits += _hits(path, search, overlap)
        except OSError:  # gone meanwhile, or not ours to read
            surface.unread += 1
        else:
            surface.files += 1
            surface.size += found.st_size
    return surface


def _files(places: list[Path]) -> Iterator[Path]:
    for place in places:
        if place.is_file():
            yield place
        for folder, _, names in os.walk(place, onerror=None):
            for name in names:
                path = Path(folder) / name
                if path.is_file() and not path.is_symlink():
                    yield path


def _hits(path: Path, search: ahocorasick_rs.BytesAhoCorasick, overlap: int) -> int:
    """Occurrences in the content of a file, and in its name."""
    hits = len(search.find_matches_as_indexes(os.fsencode(path.name).lower(), overlapping=True))
    # Mail breaks its encoded lines, so the content is searched as it is and without line ends.
    plain = unfolded = b""
    counts = [0, 0]
    with path.open("rb") as handle:
        while block := handle.read(BLOCK):
            lower = block.lower()
            joined = lower.replace(b"=\r\n", b"").replace(b"=\n", b"").translate(None, b"\r\n")
            counts[0] += _new_hits(plain, lower, search)
            counts[1] += _new_hits(unfolded, joined, search)
            plain, unfolded = (plain + lower)[-overlap:], (unfolded + joined)[-overlap:]
    return hits + max(counts)


def _new_hits(kept: bytes, block: bytes, search: ahocorasick_rs.BytesAhoCorasick) -> int:
    """Hits that end in the block; what lies wholly in `kept` was counted with the block before."""
    found = search.find_matches_as_indexes(kept + block, overlapping=True)
    return sum(end > len(kept) for _, _, end in found)
