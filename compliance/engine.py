"""The heavy steps, in a process of their own: `python -m compliance.engine PARENT MEMORY`.

PARENT is the worker's process id, MEMORY the limit in bytes. Reads one JSON request from standard
input and writes JSON lines to standard output: progress, then one of result, failed (the step
cannot be done; words fit to show), hindered (not now: the machine could not) or crashed. No
Django, no database; the network is cut off before the request is read. Personal data comes and
goes by the pipes; a weight delta is sealed before it touches a disk.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from . import heavy_datasets, heavy_documents, heavy_models
from .confinement import ConfinementError, confine
from .machine import hindrance
from .traces import where

Operation = Callable[[dict[str, Any], Callable[[str, int, int], None]], dict[str, Any]]

OPERATIONS: dict[str, Operation] = {
    "find": heavy_models.find,
    "apply_model": heavy_models.apply,
    "verify_model": heavy_models.verify,
    "rerun_duties": heavy_models.rerun_duties,
    "apply_dataset": heavy_datasets.apply,
    "verify_dataset": heavy_datasets.verify,
    "document": heavy_documents.write,
}
PROGRESS_SECONDS = 0.2


def _say(kind: str, value: Any) -> None:
    sys.stdout.write(json.dumps({kind: value}) + "\n")
    sys.stdout.flush()


class _Progress:
    """Progress lines, not more often than a person can read."""

    def __init__(self) -> None:
        self.stage = ""
        self.said = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self.stage or done == total or now - self.said > PROGRESS_SECONDS:
            self.stage, self.said = stage, now
            _say("progress", [stage, done, total])


def _out_of_memory(error: Exception) -> bool:
    """Python's own error, or PyTorch's for an accelerator or (a RuntimeError) for the processor."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
    )


def main() -> int:
    """Do what standard input asks."""
    from language_models.errors import LetheError
    from reports.evidence import EvidenceError

    memory = int(sys.argv[2])
    try:
        confine(parent=int(sys.argv[1]), memory=memory)
        request = json.load(sys.stdin)
        result = OPERATIONS[request["operation"]](request, _Progress())
    except (LetheError, EvidenceError, ConfinementError) as error:
        _say("failed", str(error))
        return 1
    except Exception as error:  # noqa: BLE001 -- told to the parent, without what it may hold
        if _out_of_memory(error):
            limit = f"{memory / 2**30:.1f} GiB"
            _say("failed", f"The step needs more memory than its limit of {limit}.")
        elif (reason := hindrance(error)) is not None:
            _say("hindered", reason)
        else:
            _say("crashed", where(error))
        return 1
    _say("result", result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
