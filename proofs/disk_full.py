"""A small disk that is full when a job begins, and has room again some seconds later."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Any

from proofs import installations
from proofs.disk_scene import finish, judged
from proofs.installations import Installation

if TYPE_CHECKING:
    from pathlib import Path

    from proofs.disk_scene import Scene

DISK_MIB = 8
# From no room at all to room for the first steps only.
SPARE_KIB = (0, 32, 64, 128, 256)
FULL_SECONDS = 4


def fill_and_free(scene: Scene, spare: int) -> dict[str, Any]:
    """Do the job on a disk with so many KiB of room, free it, let the job end, judge."""
    mount = scene.base.folder.with_name(f"full-{scene.kind}-{spare}")
    mount.mkdir()
    _command("mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "lethe-proof", str(mount))
    try:
        place = Installation(
            mount / "var", scene.base.broker, "", scene.base.settings | {"LETHE_JOB_PATIENCE": "60"}
        )
        _command("cp", "-a", str(scene.base.folder), str(place.folder))
        filler = mount / "filler"
        _fill(filler, spare)
        process = place.start("-m", "proofs.disk_job", scene.job)
        begun = time.monotonic()
        while process.poll() is None and time.monotonic() - begun < FULL_SECONDS:
            time.sleep(0.1)
        ended = process.poll() is not None
        filler.unlink()
        process.wait(timeout=90)
        finish(place, scene.job)
        return {
            "kind": scene.kind,
            "spare_kib": spare,
            "outlasted": not ended,
            **judged(place, scene.kind),
        }
    finally:
        _command("umount", str(mount))


def _fill(path: Path, spare: int) -> None:
    """Write until the disk takes no more, then give some of it back."""
    block = b"\0" * 4096
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(block)
        except OSError:
            pass
        file.truncate(max(0, file.tell() - spare * 1024))


def _command(*words: str) -> None:
    subprocess.run(words, check=True, cwd=installations.ROOT, timeout=30)


def line(row: dict[str, Any]) -> str:
    """One line of the table."""
    verdict = "intact" if row["intact"] else "NOT INTACT"
    how = "outlasted" if row["outlasted"] else "put back or left"
    return (
        f"disk full, {row['spare_kib']:>4} KiB left, {row['kind']:<10} {verdict}, {how}, "
        f"attempts burnt {row['burnt']}, files left {len(row['orphans'])}"
    )
