"""A real worker over a real broker, killed in the middle of a job: the job is taken up again.

The same story on SQLite with the filesystem transport, and on PostgreSQL with Redis and RabbitMQ.
"""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from proofs import installations
from proofs.installations import SET_UPS, WORKER, Installation, kill

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=SET_UPS)
def installation(request, tmp_path: Path) -> Iterator[Installation]:
    try:
        made = installations.make(request.param, tmp_path / "installation")
    except psycopg.OperationalError:
        if os.environ.get("LETHE_REQUIRE_SERVICES"):
            raise
        pytest.skip("PostgreSQL does not answer on 127.0.0.1:5432")
    yield made
    made.remove()


def _until_done(place: Installation, seconds: float = 60) -> dict:
    deadline = time.monotonic() + seconds
    while True:
        found = place.ask("proofs.judge")
        if all(job["state"] == "done" for job in found["jobs"]):
            return found
        assert time.monotonic() < deadline, f"not done after {seconds} s: {found['jobs']}"
        time.sleep(1)  # each look is a process of its own


@pytest.mark.slow
@pytest.mark.xdist_group("heavy")
def test_killed_worker_leaves_a_job_that_the_next_one_finishes(installation: Installation) -> None:
    installation.run("-m", "tests.compliance.worker_case")
    worker = installation.start(*WORKER)
    try:
        deadline = time.monotonic() + 60
        while installation.ask("proofs.judge")["jobs"][0]["state"] != "running":
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        kill(worker)
    (job,) = installation.ask("proofs.judge")["jobs"]
    assert (job["state"], job["attempt"]) == ("running", 1)
    worker = installation.start(*WORKER)
    try:
        found = _until_done(installation)
    finally:
        kill(worker)
    assert found["jobs"][0]["attempt"] == 2
    assert found["intact"], found


@pytest.mark.slow
@pytest.mark.xdist_group("heavy")
def test_broker_folder_deleted_under_a_running_worker_loses_nothing(tmp_path: Path) -> None:
    place = installations.make("sqlite-filesystem", tmp_path / "installation")
    worker = place.start(*WORKER)
    try:
        time.sleep(3)
        shutil.rmtree(place.folder / "broker")
        place.run("-m", "proofs.scene", "find")
        assert _until_done(place)["intact"]
        assert worker.poll() is None
    finally:
        kill(worker)
        place.remove()
