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
os.environ["LETHE_VAR"] = str(_VAR)
os.environ["BROKER_URL"] = os.environ.get("LETHE_TEST_BROKER", "memory://")


def pytest_unconfigure() -> None:
    shutil.rmtree(_VAR, ignore_errors=True)
