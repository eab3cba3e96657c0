"""`make serve`: web and worker come up, the accounts are printed, and all of it ends together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.xdist_group("heavy")
def test_serve_starts_prints_its_accounts_and_ends_whole(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        bind = f"127.0.0.1:{probe.getsockname()[1]}"
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LETHE_VAR": str(tmp_path / "var")}
    subprocess.run(
        [sys.executable, "-m", "setup.state", str(tmp_path / "var")], cwd=ROOT, check=True
    )
    process = subprocess.Popen(
        [sys.executable, "manage.py", "serve", "--bind", bind],
        cwd=ROOT,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(f"http://{bind}/")
    finally:
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=30)
    assert f"http://{bind}" in said
    for name in ("officer", "legal", "auditor", "steward"):
        assert f"  {name} " in said
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://{bind}/", timeout=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["var"]


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                assert answer.status == 200
                return
        except OSError:  # refused, or slow on a busy machine
            assert time.monotonic() < deadline
            time.sleep(0.3)
