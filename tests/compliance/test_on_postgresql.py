"""The trust core's own tests once more, on PostgreSQL with Redis and with RabbitMQ.

They run in a process of their own, because a process has one database. What they test is named in
CORE; the rest of the suite does not depend on the database.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path

import psycopg
import pytest
from kombu import Connection

from proofs.installations import POSTGRES, RABBITMQ, REDIS

ROOT = Path(__file__).resolve().parents[2]
HERE = "tests/compliance"
CORE = (
    *("jobs", "faults", "audit", "vault", "retention", "shredding", "serving", "step2_identity"),
    *("duties_ended", "duties_locks"),
)
SET_UPS = {"redis": (REDIS, CORE), "rabbitmq": (RABBITMQ, ("jobs", "faults"))}


@pytest.mark.slow
@pytest.mark.xdist_group("heavy")
@pytest.mark.parametrize("broker", SET_UPS)
def test_trust_core_on_postgresql(broker: str) -> None:
    try:
        psycopg.connect(POSTGRES, connect_timeout=3).close()
    except psycopg.OperationalError:
        if os.environ.get("LETHE_REQUIRE_SERVICES"):
            raise
        pytest.skip("PostgreSQL does not answer on 127.0.0.1:5432")
    address, files = SET_UPS[broker]
    queue = f"tests-{uuid.uuid4().hex[:8]}"
    try:
        done = subprocess.run(
            [
                sys.executable,
                *("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"),
                *(f"{HERE}/test_{name}.py" for name in files),
            ],
            cwd=ROOT,
            env=os.environ
            | {
                "DATABASE_URL": POSTGRES.rsplit("/", 1)[0] + f"/core_{queue[-8:]}",
                "LETHE_TEST_BROKER": address,
                "LETHE_QUEUE": queue,
            },
            text=True,
            capture_output=True,
            check=False,
            timeout=280,
        )
    finally:
        with Connection(address) as connection:
            connection.default_channel.queue_delete(queue)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
