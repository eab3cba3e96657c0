"""Run-time state of one installation: `python -m setup.state FOLDER [--fresh]`.

Folders, keys, database, demo certificate. Runs inside the virtual environment.
"""

from __future__ import annotations

import argparse
import base64
import os
import secrets
import shutil
import sys
from pathlib import Path

FOLDERS = (
    "keys",
    "store",
    "work",
    "mail",
    "checkpoints",
    "run",
    "broker/ring",
    "broker/control",
)


def write_key(path: Path, content: str) -> None:
    """A key file readable by its owner alone, unless there is one already."""
    if path.exists():
        return
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(content)


def make_folders(var: Path) -> None:
    """Every folder of the run-time state, for its owner alone."""
    for name in FOLDERS:
        (var / name).mkdir(parents=True, exist_ok=True, mode=0o700)


def _refuse_half_a_set(folder: Path) -> None:
    """A key that is missing beside what it made was lost: a new one would hide that."""
    for missing, made in (
        ("vault/current", folder.glob("vault/*.key")),
        ("log/log.key", (*folder.glob("log/log.vkey"), *folder.parent.glob("checkpoints/*"))),
        ("vault/current", folder.parent.glob("store/*/*")),
    ):
        if not (folder / missing).exists() and any(made):
            sys.exit(
                f"set-up: keys/{missing} is missing, but was there before. Restore it from the "
                "backup of the keys; a new one could not read or continue what is there."
            )


def make_keys(folder: Path) -> None:
    """The keys that are missing: of Django, of the vault, and of the log of record."""
    from compliance import checkpoint, key_files

    _refuse_half_a_set(folder)
    write_key(folder / "django.key", secrets.token_urlsafe(50))
    if not (folder / "vault/current").exists():
        key_files.new_key(folder / "vault")
    if not (folder / "log/log.key").exists():
        seed, verifier_key = checkpoint.new_key(f"lethe-{secrets.token_hex(4)}/log")
        key_files.write_private(folder / "log/log.key", base64.b64encode(seed).decode())
        key_files.write_private(folder / "log/log.vkey", verifier_key + "\n")


def main() -> int:
    """Make what is missing in the folder; with --fresh start with an empty one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fresh", action="store_true", help="remove what is there first")
    options = parser.parse_args()
    var = options.folder.resolve()
    if options.fresh and (var / "keys").is_dir():
        shutil.rmtree(var)
    make_folders(var)
    make_keys(var / "keys")
    os.environ["LETHE_VAR"] = str(var)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", interactive=False, verbosity=0)
    if not (var / "keys/signing").exists():
        from reports.signature import make_demo_certificate

        make_demo_certificate(var / "keys/signing", "Lethe demonstration")
    return 0


if __name__ == "__main__":
    sys.exit(main())
