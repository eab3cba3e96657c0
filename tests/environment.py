"""One run-time folder for a test run, made before Django reads its settings and removed after."""

from __future__ import annotations

import base64
import os
import shutil
import tempfile
from pathlib import Path

_VAR = Path(tempfile.mkdtemp(prefix="lethe-tests-"))
for _name in ("keys", "store", "work", "mail", "broker/ring", "broker/control"):
    (_VAR / _name).mkdir(parents=True, mode=0o700)
(_VAR / "keys/django.key").write_text("only for this run of the tests " * 3)
(_VAR / "keys/vault.key").write_text(base64.b64encode(os.urandom(32)).decode())
os.environ["LETHE_VAR"] = str(_VAR)
os.environ["BROKER_URL"] = os.environ.get("LETHE_TEST_BROKER", "memory://")


def pytest_unconfigure() -> None:
    shutil.rmtree(_VAR, ignore_errors=True)
