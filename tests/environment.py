"""One run-time folder for a test run, made before Django reads its settings and removed after."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from setup.state import make_folders, make_keys

_VAR = Path(tempfile.mkdtemp(prefix="lethe-tests-"))
make_folders(_VAR)
make_keys(_VAR / "keys")
# Two test processes share two cores, and waiting threads cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["LETHE_VAR"] = str(_VAR)
os.environ["BROKER_URL"] = os.environ.get("LETHE_TEST_BROKER", "memory://")


def pytest_unconfigure() -> None:
    shutil.rmtree(_VAR, ignore_errors=True)
