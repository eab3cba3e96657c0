"""Progress of long work as lines on the standard error, with no text of any fact."""

from __future__ import annotations

import sys
import time

SECONDS_BETWEEN = 1.0


class Printed:
    """A progress callback that prints at most one line a second."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.last = float("-inf")

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Print where the work is, unless something was printed just now."""
        now = time.monotonic()
        if now - self.last >= SECONDS_BETWEEN:
            self.last = now
            sys.stderr.write(f"{self.title}: {stage} {done}/{total}\n")
            sys.stderr.flush()
