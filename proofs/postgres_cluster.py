"""A PostgreSQL cluster of our own in a temporary folder, which may be stopped at once."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Any, Self

import psycopg

PROGRAMS = Path(os.environ.get("LETHE_TEST_PG_BIN", "/usr/lib/postgresql/15/bin"))


class Cluster:
    """Started when entered; stopped and removed when left."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lethe-postgres-"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def __enter__(self) -> Self:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        data = str(self.folder / "data")
        self._program("initdb", "--auth=trust", "--username=postgres", "-D", data)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start it, recovery included; returns once it takes connections."""
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1"
        log = str(self.folder / "log")
        self._program("pg_ctl", "-D", self._data, "-w", "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """Stop it as a power cut does: nothing is written any more, sessions break off."""
        self._program("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def url(self, database: str) -> str:
        """Where a database of it is."""
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def new(self, template: str = "template1") -> str:
        """Make a database, empty or as a copy; returns its name."""
        name = f"proof_{uuid.uuid4().hex[:8]}"
        self.ask("postgres", f"CREATE DATABASE {name} TEMPLATE {template}")
        # A copied sequence counts as logged ahead, which it is not in the copy: after a crash it
        # would give its numbers twice. From a checkpoint on it is logged anew.
        self.ask("postgres", "CHECKPOINT")
        return name

    def ask(self, database: str, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query of the driver, past the product."""
        with psycopg.connect(self.url(database), autocommit=True, connect_timeout=3) as session:
            found = session.execute(query.encode())
            return found.fetchall() if found.description else []

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _program(self, name: str, *arguments: str) -> None:
        # PostgreSQL refuses to run as root.
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        subprocess.run(
            [*user, str(PROGRAMS / name), *arguments],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )
