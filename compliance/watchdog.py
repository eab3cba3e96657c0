"""End a worker that lives but hears no bell, so that whoever supervises it starts a new one.

A worker can lose its queue without noticing (seen when a queue was deleted twice within two
seconds; reported of brokers that restart). The sweep rings every few seconds, so a worker that is
idle and has heard nothing for much longer is deaf. What it leaves undone is in the database.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

from celery.signals import task_received, worker_ready
from celery.worker import state
from django.conf import settings

log = logging.getLogger(__name__)

SWEEPS_MISSED = 10
LEAST_SECONDS = 20.0
LOOK_SECONDS = 2.0
LAST_WORDS_SECONDS = 5.0

_heard = time.monotonic()


@task_received.connect
def hear(**_: object) -> None:
    """A bell rang."""
    global _heard
    _heard = time.monotonic()


def is_deaf(now: float) -> bool:
    """Whether this worker does nothing and has heard nothing for too long."""
    patience = max(LEAST_SECONDS, SWEEPS_MISSED * settings.JOB_SWEEP_SECONDS)
    return not state.active_requests and now - _heard > patience


def _watch() -> None:
    while not is_deaf(time.monotonic()):
        time.sleep(LOOK_SECONDS)
    log.error("This worker hears nothing from its broker any more; it ends to be started anew.")
    os.kill(os.getpid(), signal.SIGQUIT)
    time.sleep(LAST_WORDS_SECONDS)
    os._exit(1)


@worker_ready.connect
def watch(**_: object) -> None:
    """Begin when the worker is ready; a broker away at the start is Celery's to wait for."""
    hear()
    threading.Thread(target=_watch, name="watchdog", daemon=True).start()
