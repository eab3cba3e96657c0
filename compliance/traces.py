"""What may be told of an unexpected error: its kind and place, never its message."""

from __future__ import annotations

import traceback


def where(error: BaseException) -> str:
    """Name an error by its type and the line it came from; its message may hold personal data."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}, line {frame.lineno}"
