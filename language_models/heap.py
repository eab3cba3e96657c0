"""Freed memory is kept for the next tensor.

Each step of a forward on a processor makes its result anew. glibc gives what is freed at the end
of the heap back to the system at once, and every page that it then takes again is first cleared:
about a fifth of the time of a small model's forward.
"""

from __future__ import annotations

import ctypes
from functools import cache

# mallopt(3): names of parameters in malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
# The largest that glibc takes, and what it reaches by itself: above it, tensors go back when freed.
LARGEST_KEPT = 32 * 2**20
MOST_KEPT = 2**28


@cache
def keep_freed() -> bool:
    """Let this process keep up to MOST_KEPT bytes that it freed. False where malloc has no such
    setting (musl, macOS): then it is as it was.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # To set one ends that the other follows what is freed, so both are set.
    return mallopt is not None and bool(
        mallopt(MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(TRIM_THRESHOLD, MOST_KEPT)
    )
