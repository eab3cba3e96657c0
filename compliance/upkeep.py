"""What is put in order when a worker starts, and every hour: after crashes and restored backups."""

from __future__ import annotations

import logging
from importlib import import_module

from django.conf import settings

from . import audit, duties, registry, serving, shredding, store
from .faults import DATABASE_AWAY, hindrance
from .key_files import KeyUnavailable
from .models import Job, JobState

log = logging.getLogger(__name__)


def keep_up() -> list[str]:
    """Each part on its own: what hinders one does not hinder the others. Returns what hindered."""
    problems = []
    for part in PARTS:
        try:
            part()
        except (audit.LogBroken, KeyUnavailable) as broken:
            log.error("%s", broken)
            problems.append(str(broken))
        except (*DATABASE_AWAY, OSError) as error:
            reason = hindrance(error) or type(error).__name__
            log.warning("Upkeep waits: %s", reason)
            problems.append(reason)
    return problems


def _sweep_files() -> None:
    live = Job.objects.filter(state__in=(JobState.READY, JobState.RUNNING))
    removed = store.sweep_orphans({str(pk) for pk in live.values_list("pk", flat=True)})
    if removed:
        log.info("%d files that a killed process had left were removed.", removed)


def _sign() -> None:
    """A checkpoint every hour in which something happened; copy them to somebody else."""
    if audit.size() and not (settings.CHECKPOINT_DIR / f"{audit.size():012d}.checkpoint").exists():
        audit.checkpoint()


def _clear_sessions() -> None:
    """A session names the case that its visitor opened."""
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()


PARTS = (
    shredding.replay,
    duties.end_due,
    shredding.finish,
    registry.purge_closed,
    serving.follow_all,
    _sweep_files,
    _clear_sessions,
    _sign,
)
