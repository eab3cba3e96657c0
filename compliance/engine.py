"""The heavy steps, in a process of their own: `python -m compliance.engine`.

Reads one JSON request from standard input and writes JSON lines to standard output: progress, then
one of result, failed (the step cannot be done; words fit to show) or crashed. No Django, no
database, no network. Personal data comes and goes by the pipes; a weight delta is sealed before
it touches a disk.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from . import heavy_datasets, heavy_documents, heavy_models
from .traces import where

Operation = Callable[[dict[str, Any], Callable[[str, int, int], None]], dict[str, Any]]

OPERATIONS: dict[str, Operation] = {
    "find": heavy_models.find,
    "apply_model": heavy_models.apply,
    "verify_model": heavy_models.verify,
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


def main() -> int:
    """Do what standard input asks."""
    from language_models.errors import LetheError
    from reports.evidence import EvidenceError

    request = json.load(sys.stdin)
    try:
        result = OPERATIONS[request["operation"]](request, _Progress())
    except (LetheError, EvidenceError) as error:
        _say("failed", str(error))
        return 1
    except Exception as error:  # noqa: BLE001 -- told to the parent, without what it may hold
        _say("crashed", where(error))
        return 1
    _say("result", result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
