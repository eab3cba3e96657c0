"""Prepare this checkout: `python3 -m setup [--test]`. Safe to run again; does only what is missing.

Virtual environment, pinned packages and the few Debian libraries; setup/state.py makes the
run-time state. Every failure is one line that says what to do.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin/python"
OLDEST = (3, 11)

# Debian package → a file or command that shows it is there.
LIBRARIES = {
    "libpango-1.0-0": "libpango-1.0.so.0",
    "libpangoft2-1.0-0": "libpangoft2-1.0.so.0",
    "libharfbuzz-subset0": "libharfbuzz-subset.so.0",
    "fonts-ipaexfont-gothic": "/usr/share/fonts/opentype/ipaexfont-gothic/ipaexg.ttf",
}
TEST_LIBRARIES = {"chromium": "chromium", "poppler-utils": "pdftoppm"}


class SetupError(Exception):
    """One line for the person at the terminal."""


def main() -> int:
    """Run the steps; 0 when everything is ready."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--test", action="store_true", help="also what the tests need")
    test = parser.parse_args().test
    try:
        check_python()
        make_environment()
        install_packages("requirements-dev.txt" if test else "requirements.txt")
        install_libraries(LIBRARIES | (TEST_LIBRARIES if test else {}))
    except SetupError as error:
        print(f"Set-up stopped: {error}", file=sys.stderr)  # noqa: T201 -- the terminal is the page
        return 1
    return 0


def say(text: str) -> None:
    print(f"set-up: {text}", flush=True)  # noqa: T201 -- the terminal is the page


def run(command: list[str], remedy: str, *, env: dict[str, str] | None = None) -> None:
    """Run a command; on failure show its last line and the remedy."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
        env=env,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout or "").splitlines()]
        errors = [line for line in lines if "error" in line.lower()] or lines or ["no message"]
        raise SetupError(f"{remedy} ({errors[-1][:200]})")


def check_python() -> None:
    if sys.version_info < OLDEST:
        found = ".".join(map(str, sys.version_info[:3]))
        raise SetupError(
            f"Python 3.11 or newer is needed, this is {found}. Install python3.11 and run "
            "`make PYTHON=python3.11 …`."
        )
    if not sys.platform.startswith("linux"):
        raise SetupError("Only Linux is supported. Use a Debian 12 machine or container.")


def make_environment() -> None:
    """The virtual environment; Debian keeps the module for it in a package of its own."""
    if PYTHON.exists():
        return
    say("virtual environment")
    try:
        import ensurepip  # noqa: F401 -- only whether it is there
    except ImportError:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        install_debian([f"python{version}-venv"])
    run(
        [sys.executable, "-m", "venv", str(VENV)],
        "The virtual environment could not be made. Install python3-venv and try again.",
    )


def install_packages(file: str) -> None:
    """Pinned packages, when the list changed since the last time."""
    wanted = "".join((ROOT / name).read_text() for name in ("requirements.txt", file))
    stamp = VENV / f".{file}.sha256"
    digest = hashlib.sha256(wanted.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    say(f"packages of {file} (about a minute, more on a slow line)")
    run(
        [str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", file],
        "The packages could not be installed. Check the network and the package index, and "
        "install gcc and python3-dev if a package had to be compiled.",
    )
    stamp.write_text(digest)


def install_libraries(libraries: dict[str, str]) -> None:
    """Debian packages whose files are missing."""
    missing = [package for package, sign in libraries.items() if not present(sign)]
    if missing:
        install_debian(missing)


def present(sign: str) -> bool:
    """Whether a font file, a shared library or a command is there."""
    if sign.startswith("/"):
        return Path(sign).exists()
    if ".so" in sign:
        listing = shutil.which("ldconfig") or "/sbin/ldconfig"
        known = subprocess.run([listing, "-p"], text=True, capture_output=True, check=False)
        return sign in known.stdout
    return shutil.which(sign) is not None


def install_debian(packages: list[str]) -> None:
    """apt-get install, as root or by sudo; says the exact command when neither works."""
    names = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise SetupError(f"These Debian packages are missing: {names}. Install them.")
    rights = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if rights and shutil.which("sudo") is None:
        raise SetupError(f"Run as root: apt-get install -y {names}")
    say(f"Debian packages {names}")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    remedy = f"Run as root: apt-get update && apt-get install -y {names}"
    run([*rights, "apt-get", "update", "-qq"], remedy, env=env)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    run([*rights, *install], remedy, env=env)


if __name__ == "__main__":
    sys.exit(main())
