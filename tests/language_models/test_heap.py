"""Freed memory is kept: the pages of one forward serve the next."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Some tensors of less than LARGEST_KEPT, made and freed as the steps of a forward are.
ROUNDS = """
import resource, sys, torch
from language_models.heap import keep_freed

assert sys.argv[1] == "as it comes" or keep_freed()

def round_of_tensors():
    return [torch.ones(7 * 2**20) for _ in range(4)]

for _ in range(3):
    round_of_tensors()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    round_of_tensors()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", ROUNDS, how], capture_output=True, text=True, check=True, timeout=60
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_tensors_take_pages_again_that_were_freed() -> None:
    kept, as_it_comes = faults("kept"), faults("as it comes")

    assert kept < as_it_comes / 20
