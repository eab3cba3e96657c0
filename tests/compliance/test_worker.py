"""A real worker over a real broker, killed in the middle of a job: the job is taken up again.

The same story on SQLite with the filesystem transport and on PostgreSQL with Redis.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
POSTGRES = os.environ.get("LETHE_TEST_POSTGRES", "postgres://postgres@127.0.0.1:5432/postgres")
REDIS = os.environ.get("LETHE_TEST_REDIS", "redis://127.0.0.1:6379/15")
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


class Installation:
    """One installation in a folder of its own."""

    def __init__(self, folder: Path, database: str, broker: str) -> None:
        self.folder = folder
        self.database = database
        self.env = {
            "PATH": os.environ["PATH"],
            "LETHE_VAR": str(folder),
            "LETHE_JOB_LEASE": "3",
            "BROKER_URL": broker,
        }
        if database:
            self.env["DATABASE_URL"] = database

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self.env,
            text=True,
            capture_output=True,
            check=True,
            timeout=120,
        )
        return done.stdout

    def row(self, query: str) -> tuple:
        if self.database:
            with psycopg.connect(self.database) as connection:
                return connection.execute(query).fetchone()
        with contextlib.closing(sqlite3.connect(self.folder / "lethe.sqlite3")) as connection:
            return connection.execute(query).fetchone()

    def wait(self, query: str, wanted: tuple, seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while (found := self.row(query)) != wanted:
            assert time.monotonic() < deadline, f"{found} instead of {wanted} after {seconds} s"
            time.sleep(0.2)

    @contextlib.contextmanager
    def worker(self) -> Iterator[subprocess.Popen]:
        process = subprocess.Popen(
            [sys.executable, *WORKER],
            cwd=ROOT,
            env=self.env,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(params=["sqlite-filesystem", "postgresql-redis"])
def installation(request, tmp_path: Path) -> Iterator[Installation]:
    if request.param == "sqlite-filesystem":
        yield Installation(tmp_path, "", "filesystem://localhost/")
        return
    name = f"lethe_test_{uuid.uuid4().hex[:8]}"
    try:
        server = psycopg.connect(POSTGRES, autocommit=True, connect_timeout=3)
    except psycopg.OperationalError:
        if os.environ.get("LETHE_REQUIRE_SERVICES"):
            raise
        pytest.skip("PostgreSQL does not answer on 127.0.0.1:5432")
    server.execute(f"CREATE DATABASE {name}")
    try:
        yield Installation(tmp_path, POSTGRES.rsplit("/", 1)[0] + f"/{name}", REDIS)
    finally:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        server.close()


@pytest.mark.xdist_group("heavy")
def test_killed_worker_leaves_a_job_that_the_next_one_finishes(installation: Installation) -> None:
    installation.run("-m", "setup.state", str(installation.folder))
    installation.run("-m", "tests.compliance.worker_case")
    state = "SELECT state, attempt FROM compliance_job"
    with installation.worker() as worker:
        installation.wait(state, ("running", 1))
        os.killpg(worker.pid, signal.SIGKILL)
    assert installation.row(state) == ("running", 1)
    with installation.worker():
        installation.wait(state, ("done", 2))
    assert installation.row("SELECT count(*) FROM compliance_target") == (2,)
    restarted = "SELECT count(*) FROM compliance_auditevent WHERE action = 'job.restarted'"
    assert installation.row(restarted) == (1,)
