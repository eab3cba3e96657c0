"""Start the processes of one machine: web server and worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from django.conf import settings

STOP_SECONDS = 5


def web_server(bind: str) -> subprocess.Popen:
    """gunicorn with two processes."""
    return _start(
        "gunicorn",
        "config.wsgi:application",
        "--bind",
        bind,
        "--workers",
        "2",
        # It would lie in the home folder, outside LETHE_VAR.
        "--no-control-socket",
    )


def celery_worker(concurrency: int) -> subprocess.Popen:
    """A Celery worker with the sweeper's clock in it."""
    return _start(
        "celery",
        "--quiet",
        "--app=config",
        "worker",
        "--beat",
        f"--concurrency={concurrency}",
        "--loglevel=WARNING",
        "--without-gossip",
        "--without-mingle",
    )


def stop(process: subprocess.Popen, *, patience: float = STOP_SECONDS) -> None:
    """Ask for the end, insist after `patience` seconds: a job that is cut off is taken up again."""
    process.terminate()
    try:
        process.wait(timeout=patience)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _start(module: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        # In a container the worker runs as root; Celery's warning of that says nothing new.
        [sys.executable, "-W", "ignore:You're running the worker", "-m", module, *arguments],
        cwd=settings.BASE_DIR,
        stdin=subprocess.DEVNULL,
        # A group of its own, so that the end of a worker is the end of its pool as well.
        start_new_session=True,
    )
