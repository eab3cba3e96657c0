"""Look at an installation from outside, start its workers, and clear its queue away."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
from amqp.exceptions import AMQPError  # type: ignore[import-untyped]
from kombu import Connection
from redis import Redis

from .installations import LEASE_SECONDS, POSTGRES, Installation

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

# As compliance.services.celery_worker starts it.
WORKER = (
    "worker",
    "--beat",
    "--concurrency=1",
    "--loglevel=WARNING",
    "--without-gossip",
    "--without-mingle",
)
# The promise: a job of a dead worker is taken up within its lease and this.
PROMISE_SECONDS = LEASE_SECONDS + 5


@dataclass(frozen=True)
class JobRow:
    """A job as the database has it; `started`: seconds since 1970."""

    state: str
    attempt: int
    started: float


def rows(installation: Installation, sql: str) -> list[tuple[Any, ...]]:
    """Ask its database."""
    if installation.database:
        address = POSTGRES.rsplit("/", 1)[0] + f"/{installation.database}"
        with psycopg.connect(address, autocommit=True, connect_timeout=3) as connection:
            return connection.execute(sql).fetchall()
    address = f"file:{installation.folder}/lethe.sqlite3?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True, timeout=20)) as lite:
        return lite.execute(sql).fetchall()


def job_row(installation: Installation, job: str) -> JobRow:
    """The row of a job."""
    name = job if installation.database else job.replace("-", "")
    sql = f"SELECT state, attempt, started_at FROM compliance_job WHERE id = '{name}'"  # noqa: S608 -- an id
    state, attempt, started = rows(installation, sql)[0]
    if isinstance(started, str):
        started = datetime.fromisoformat(started).replace(tzinfo=UTC)
    return JobRow(state, attempt, started.timestamp() if started else 0.0)


def worker(installation: Installation) -> subprocess.Popen[bytes]:
    """Start a Celery worker as the product does."""
    warnings = ("-W", "ignore:You're running the worker")
    return installation.start(*warnings, "-m", "celery", "--quiet", "--app=config", *WORKER)


def crashing_worker(
    installation: Installation, job: str, *, at: str = "", deed: str = "kill"
) -> subprocess.Popen[bytes]:
    """Start a worker that does a deed at a point of a job; see crashing_worker.py."""
    settings = {
        "PROOF_JOB": job,
        "PROOF_TRACE": str(trace_path(installation)),
        "PROOF_WORKER": " ".join(WORKER),
        "PROOF_DEED": deed,
    }
    if at:
        settings["PROOF_AT"] = at
    return installation.start("-m", "proofs.crashing_worker", **settings)


def trace_path(installation: Installation) -> Path:
    return installation.folder / "trace.jsonl"


def trace(installation: Installation) -> list[dict[str, Any]]:
    """What the crashing worker said so far."""
    try:
        lines = trace_path(installation).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def group_is_gone(group: int) -> bool:
    """Whether no process of a process group lives any more."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def waiting(installation: Installation) -> int:
    """Bells that lie in its queue."""
    if installation.broker.startswith("filesystem"):
        return len(list((installation.folder / "broker/ring").glob("*.msg")))
    if installation.broker.startswith("redis"):
        with _redis(installation) as redis:
            return int(redis.llen(installation.queue))
    with _channel(installation) as channel:
        return int(channel.queue_declare(installation.queue, passive=True).message_count)


def delete_queue(installation: Installation) -> None:
    """Delete all that the broker holds for it, and nothing of anybody else."""
    if installation.broker.startswith("redis"):
        with _redis(installation) as redis:
            _delete_redis(redis, installation.queue)
    elif installation.broker.startswith("amqp"):
        with _channel(installation) as channel:
            channel.queue_delete(installation.queue)
        with contextlib.suppress(AMQPError), _channel(installation) as channel:
            channel.exchange_delete(installation.queue)


def _delete_redis(redis: Redis, queue: str) -> None:
    # Bindings lie under `_kombu.binding.` and `_kombu.binding_permanent.`.
    names = [*redis.scan_iter(f"{queue}*"), *redis.scan_iter(f"_kombu.binding*.{queue}*")]
    if names:
        redis.delete(*names)
    # Delivered and not acknowledged: [message, exchange, routing key], of all queues in one hash.
    for tag, held in redis.hgetall("unacked").items():
        if json.loads(held)[2] == queue:
            redis.hdel("unacked", tag)
            redis.zrem("unacked_index", tag)


@contextlib.contextmanager
def _redis(installation: Installation) -> Iterator[Redis]:
    parts = urlsplit(installation.broker)
    redis = Redis(parts.hostname or "127.0.0.1", parts.port or 6379, int(parts.path.strip("/")))
    try:
        yield redis
    finally:
        redis.close()


@contextlib.contextmanager
def _channel(installation: Installation) -> Iterator[Any]:
    with Connection(installation.broker, connect_timeout=3) as connection:
        yield connection.default_channel


def clear(installation: Installation) -> None:
    """Remove installation and queue."""
    with contextlib.suppress(AMQPError):
        delete_queue(installation)
    installation.remove()
