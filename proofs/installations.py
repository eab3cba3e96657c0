"""Installations for the proofs, of the three set-ups: SQLite, PostgreSQL and Redis or RabbitMQ.

Each lies in a folder of its own with a database and a queue of its own; a snapshot of it can be put
back any number of times. Services are those of this machine (LETHE_TEST_* name others).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
POSTGRES = os.environ.get("LETHE_TEST_POSTGRES", "postgres://postgres@127.0.0.1:5432/postgres")
REDIS = os.environ.get("LETHE_TEST_REDIS", "redis://127.0.0.1:6379/15")
RABBITMQ = os.environ.get("LETHE_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672//")
SET_UPS = {
    "sqlite-filesystem": (False, "filesystem://localhost/"),
    "postgresql-redis": (True, REDIS),
    "postgresql-rabbitmq": (True, RABBITMQ),
}
LEASE_SECONDS = 2
WORKER = (
    "-m",
    "celery",
    "--app=config",
    "worker",
    "--beat",
    "--concurrency=1",
    "--loglevel=ERROR",
    "--without-gossip",
    "--without-mingle",
)


@dataclass
class Installation:
    """One installation. `database`: its name in PostgreSQL, or "" for SQLite in the folder."""

    folder: Path
    broker: str
    database: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    queue: str = field(default_factory=lambda: f"proof-{uuid.uuid4().hex[:8]}")

    @property
    def env(self) -> dict[str, str]:
        """The environment of its processes."""
        found = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "LETHE_VAR": str(self.folder),
            "LETHE_QUEUE": self.queue,
            "LETHE_JOB_LEASE": str(LEASE_SECONDS),
            "LETHE_JOB_SWEEP": "1",
            "BROKER_URL": self.broker,
        }
        if threads := os.environ.get("OMP_NUM_THREADS"):
            found["OMP_NUM_THREADS"] = threads
        if self.database:
            found["DATABASE_URL"] = POSTGRES.rsplit("/", 1)[0] + f"/{self.database}"
        return found | self.settings

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run a Python module or script in it; returns its standard output."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.env,
            text=True,
            capture_output=True,
            check=False,
            timeout=180,
        )
        if check and done.returncode:
            raise RuntimeError(f"{arguments} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def ask(self, *arguments: str) -> Any:
        """The JSON that a module prints last."""
        return json.loads(self.run("-m", *arguments).splitlines()[-1])

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        """Start a process of it, in a session of its own."""
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.env | settings,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def snapshot(self) -> Installation:
        """A copy with a database and a queue of its own; nothing may run in the original."""
        folder = self.folder.with_name(f"{self.folder.name}-{uuid.uuid4().hex[:6]}")
        shutil.copytree(self.folder, folder, symlinks=True)
        database = ""
        if self.database:
            database = f"lethe_proof_{uuid.uuid4().hex[:8]}"
            with _server() as server:
                server.execute(f"CREATE DATABASE {database} TEMPLATE {self.database}")
        return Installation(folder, self.broker, database, dict(self.settings))

    def remove(self) -> None:
        """Remove folder and database."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.database:
            with _server() as server:
                server.execute(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")


@contextlib.contextmanager
def _server() -> Iterator[psycopg.Connection]:
    with psycopg.connect(POSTGRES, autocommit=True, connect_timeout=3) as server:
        yield server


def make(set_up: str, folder: Path, **settings: str) -> Installation:
    """A fresh installation of one of SET_UPS, with its keys and tables."""
    with_postgres, broker = SET_UPS[set_up]
    database = ""
    if with_postgres:
        database = f"lethe_proof_{uuid.uuid4().hex[:8]}"
        with _server() as server:
            server.execute(f"CREATE DATABASE {database}")
    made = Installation(folder, broker, database, settings)
    made.run("-m", "setup.state", str(folder))
    return made


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and all of its session at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(true: Any, seconds: float, what: str) -> float:
    """Ask again and again until it is so; returns the seconds it took. Raises TimeoutError."""
    begun = time.monotonic()
    while not true():
        if time.monotonic() - begun > seconds:
            raise TimeoutError(f"{what}: not so after {seconds} s")
        time.sleep(0.05)
    return time.monotonic() - begun


def keep(name: str, result: dict[str, Any]) -> None:
    """Leave the figures of a proof in var/proofs, for the tables in docs/proofs.md."""
    folder = ROOT / "var/proofs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
