"""Freed memory is kept: the pages of one forward serve the next."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Blocks as large as tensors of a forward, at the end of the heap. Where malloc is as it comes, one
# that is freed before lets it take the next from the heap.
BLOCKS = """
import ctypes, sys
from language_models.heap import LARGEST_KEPT, keep_freed

assert sys.argv[1] == "as it comes" or keep_freed()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
libc.sbrk.argtypes = [ctypes.c_ssize_t]
size = LARGEST_KEPT - 2**20
libc.free(libc.malloc(size))
one, two, three, four = (libc.malloc(size) for _ in range(4))
end = libc.sbrk(0)
for block in (four, three, two, one):
    libc.free(block)
print(end - libc.sbrk(0))
"""


def given_back(how: str) -> int:
    """Return by how many bytes the heap is shorter after the blocks are freed."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS, how], capture_output=True, text=True, check=True, timeout=60
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_what_is_freed_is_kept_and_otherwise_given_back() -> None:
    assert given_back("kept") == 0
    assert given_back("as it comes") > 2**26
