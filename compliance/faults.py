"""Faults of disk, database and keys: told apart from those of a job, and outlasted."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import InterfaceError, InternalError, OperationalError, connection

from . import machine
from .child import StepHindered
from .key_files import KeyUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

DATABASE_AWAY = (OperationalError, InterfaceError)
IDLE_IN_TRANSACTION = "25P03"
WRONG_QUERY = ("no such", "near ")
FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0


def hindrance(error: Exception) -> str | None:
    """The reason, fit to show, when an error is no fault of the job; None when it may be."""
    if isinstance(error, StepHindered | KeyUnavailable):
        return str(error)
    if database_is_away(error):
        return "The database was away. The job goes on by itself."
    return machine.hindrance(error)


def database_is_away(error: BaseException) -> bool:
    """Whether an error says that the connection or the server is gone, not that a query is wrong.

    PostgreSQL tells a session that idled too long in its transaction by another kind (25P03).
    """
    if isinstance(error, InternalError):
        return getattr(error.__cause__, "sqlstate", None) == IDLE_IN_TRANSACTION
    # SQLite tells a query that is wrong by the same kind as a disk that is full.
    return isinstance(error, DATABASE_AWAY) and not str(error).startswith(WRONG_QUERY)


def when_database_answers(act: Callable[[], None]) -> None:
    """Do it, again and again while the database is away, up to LETHE_JOB_PATIENCE seconds.

    `act` must bear to be done twice: a commit may have happened although its answer was lost.
    """
    until = time.monotonic() + settings.JOB_PATIENCE_SECONDS
    wait = FIRST_WAIT
    while True:
        try:
            act()
        except (*DATABASE_AWAY, InternalError) as error:
            if not database_is_away(error):
                raise
            # A connection that broke once stays broken; the next use opens a new one.
            connection.close()
            if time.monotonic() > until:
                raise
            log.warning("The database is away; trying again.")
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)
        else:
            return
