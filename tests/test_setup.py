"""Set-up on a machine where something is missing: one clear line with the remedy."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from setup import __main__ as install

ROOT = Path(settings.BASE_DIR)


def test_old_python_is_one_line_with_the_remedy(monkeypatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    with pytest.raises(install.SetupError, match=r"3\.11 or newer is needed, this is 3\.9\.2"):
        install.check_python()


def test_no_network_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "--index-url",
        "http://127.0.0.1:9/",
        "--retries",
        "0",
        "--no-cache-dir",
        "--target",
        str(tmp_path),
        "no-such-package==1",
    ]
    with pytest.raises(install.SetupError) as caught:
        install.run(command, "Check the network.", env=os.environ | {"PIP_CONFIG_FILE": os.devnull})
    assert str(caught.value).startswith("Check the network. (")
    assert "\n" not in str(caught.value)


def test_missing_libraries_without_rights_name_the_command(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "apt-get").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(install.SetupError, match="Run as root: apt-get install -y libpango"):
        install.install_debian(["libpango-1.0-0"])


def test_machine_without_apt_names_what_is_missing(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(install.SetupError, match="are missing: chromium"):
        install.install_debian(["chromium"])


def test_present_looks_for_files_libraries_and_commands(tmp_path: Path) -> None:
    assert install.present("python3")
    assert install.present("libc.so.6")
    assert not install.present("libno-such-thing.so.1")
    assert not install.present(str(tmp_path / "font.ttf"))


def test_state_is_made_once_and_its_keys_are_private(tmp_path: Path) -> None:
    def prepare(*arguments: str) -> bytes:
        subprocess.run(
            [sys.executable, "-m", "setup.state", str(tmp_path), *arguments], cwd=ROOT, check=True
        )
        name = (tmp_path / "keys/vault/current").read_text()
        return (tmp_path / f"keys/vault/{name}.key").read_bytes()

    first = prepare()
    for path in (tmp_path / "keys").rglob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (tmp_path / "keys/signing/certificate.pem").exists()
    assert prepare() == first
    assert prepare("--fresh") != first
