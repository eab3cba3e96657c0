"""The one shape in which long work reports how far it is."""

from __future__ import annotations

from collections.abc import Callable

# stage name, steps done, steps in total
Progress = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """Report to nobody: the default wherever a progress callback is optional."""
