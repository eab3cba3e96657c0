"""The engine with operations that end in every bad way: `python -m proofs.poison_engine`.

A search for a person of one of these names does it. It takes the place of `compliance.engine` in
tests and in `proofs.poison`; everything else about the child process is the product's.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

from compliance import engine, heavy_models
from compliance.child import POLL_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable


def _exhaust() -> NoReturn:
    held = []
    while True:
        held.append(bytearray(1 << 26))


def _raise_memory_error() -> NoReturn:
    raise MemoryError


def _hang() -> NoReturn:
    while True:
        time.sleep(60)


def _fill_disk() -> NoReturn:
    raise OSError(28, "No space left on device", "/somewhere/Malee Tanaka")


def _call_out() -> dict[str, Any]:
    """Answers only when the network is shut."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.socket(family, socket.SOCK_STREAM)
        except PermissionError:
            continue
        raise AssertionError("a socket could be opened")
    socket.socket(socket.AF_UNIX).close()
    return {"models": [], "datasets": []}


def _outlive() -> NoReturn:
    """Say the own number, then go on for long: dies only when the parent does."""
    sys.stdout.write(f'{{"progress": ["{os.getpid()}", 0, 1]}}\n')
    sys.stdout.flush()
    time.sleep(POLL_SECONDS)
    _hang()


POISONS: dict[str, Callable[[], Any]] = {
    "Exhausting Memory": _exhaust,
    "Memory Error": _raise_memory_error,
    "Segmentation Fault": lambda: ctypes.string_at(0),
    "Hanging Forever": _hang,
    "Abort Called": os.abort,
    "Killed Outside": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "Full Disk": _fill_disk,
    "Calling Out": _call_out,
    "Outliving Child": _outlive,
}


def find(request: dict[str, Any], report: Callable[[str, int, int], None]) -> dict[str, Any]:
    """The poison that the person's name asks for, or the product's own search."""
    poison = POISONS.get(request["person"]["name"])
    if poison is None:
        return heavy_models.find(request, report)
    result: dict[str, Any] = poison()
    return result


if __name__ == "__main__":
    engine.OPERATIONS["find"] = find
    sys.exit(engine.main())
