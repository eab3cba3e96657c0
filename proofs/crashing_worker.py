"""A real Celery worker that dies, loses its child or stands still at a chosen point of one job.

    python -m proofs.crashing_worker

The product has no hooks for this: what lasts is wrapped from outside before Celery starts. A point
lies before each act that lasts (a statement that writes, a commit, an fsync, a rename, a bell, an
e-mail, the start of the child) and where the child's answer has come; after an act is before the
next, as nothing between them lasts. The heartbeat follows the clock, so its first write is a point
apart. Only the first run of the job PROOF_JOB counts.

PROOF_WORKER  the arguments of `celery --app=config`
PROOF_TRACE   file that gets one JSON line for each point that was passed
PROOF_AT      the point at which PROOF_DEED (kill, stop, kill-child) is done; none: only count
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django

if TYPE_CHECKING:
    from collections.abc import Callable

    from compliance.forks import Forked

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

WRITES = ("INSERT", "UPDATE", "DELETE")
# A look at the limits happens every 0.2 s: by the fifth one the child is well in its work.
LOOK_AT_WORK = 5


class Points:
    """Counts what the job under test does, and does the deed at its point."""

    def __init__(self) -> None:
        self.job = os.environ["PROOF_JOB"]
        self.at = os.environ.get("PROOF_AT", "")
        self.deed = os.environ.get("PROOF_DEED", "kill")
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self.trace = os.open(os.environ["PROOF_TRACE"], flags, 0o600)
        self.running = self.ended = self.beating = self.beaten = False
        self.count = self.looks = self.progress = self.child = 0

    def say(self, **line: Any) -> None:
        """One line of the trace. No fsync: the machine stays up."""
        os.write(self.trace, (json.dumps({"time": time.time()} | line) + "\n").encode())

    def act(self, name: str) -> None:
        """A point: something that lasts comes next."""
        if not self.running:
            return
        if self.beating:
            if not self.beaten:
                self.beaten = True
                self._point("beat", name)
            return
        self.count += 1
        self._point(str(self.count), name)

    def of_child(self, name: str) -> None:
        """A point in the life of the child; only `kill-child` does something there."""
        if self.running:
            self._point(f"child:{name}", name)

    def _point(self, label: str, name: str) -> None:
        from django.db import connection

        # Django has left the block when it commits.
        inside = connection.in_atomic_block or name == "COMMIT"
        self.say(point=label, act=name, open=inside, child=self.child)
        if label != self.at:
            return
        self.say(deed=self.deed)
        if self.deed == "kill-child":
            os.killpg(self.child, signal.SIGKILL)
        elif self.deed == "kill":
            # The session of the worker is one process group (start_new_session).
            os.killpg(0, signal.SIGKILL)
        else:
            if self.child:
                os.killpg(self.child, signal.SIGSTOP)
            os.killpg(0, signal.SIGSTOP)


def put(owner: Any, name: str, function: Callable[..., Any]) -> None:
    """Let a module or class have another function under a name."""
    setattr(owner, name, function)


def wrap(owner: Any, name: str, before: Callable[..., None]) -> None:
    """Let `before` run with the same arguments ahead of a function."""
    real = getattr(owner, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        before(*arguments, **named)
        return real(*arguments, **named)

    put(owner, name, wrapped)


def install(points: Points) -> None:
    """Wrap what lasts, and the run of the job itself."""
    from django.core.mail import EmailMessage
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.backends.utils import CursorWrapper

    from compliance import jobs

    def statement(_: CursorWrapper, sql: str, *__: Any, **___: Any) -> None:
        words = str(sql).split()
        if words[0] in WRITES:
            points.act(" ".join(word.strip('"') for word in words[:3]))

    wrap(CursorWrapper, "_execute_with_wrappers", statement)
    wrap(BaseDatabaseWrapper, "_commit", lambda _: points.act("COMMIT"))
    wrap(os, "fsync", lambda _: points.act("fsync"))
    # Path.rename comes here as well.
    wrap(os, "rename", lambda *_, **__: points.act("rename"))
    wrap(os, "replace", lambda *_, **__: points.act("rename"))
    wrap(EmailMessage, "send", lambda *_, **__: points.act("e-mail"))
    wrap(jobs, "ring", lambda _: points.act("ring"))
    _wrap_run(points)
    _wrap_hold(points)
    _wrap_beat(points)
    _wrap_child(points)


def _wrap_run(points: Points) -> None:
    from compliance import jobs

    real = jobs.run

    def run(job_id: Any) -> None:
        if str(job_id) != points.job or points.ended:
            return real(job_id)
        points.running = True
        try:
            real(job_id)
            points.act("end of the job")
        finally:
            points.running, points.ended = False, True
            points.say(ended=True)

    put(jobs, "run", run)


def _wrap_hold(points: Points) -> None:
    from compliance import jobs

    real = jobs.hold

    def hold(job: Any) -> None:
        try:
            real(job)
        except jobs.LeaseLost:
            points.say(refused="fence")
            raise

    put(jobs, "hold", hold)
    # A session that the database has ended ends the attempt like a crash.
    wrap(jobs, "_after_crash", lambda _, __, reason: points.say(refused=f"crash: {reason}"))


def _wrap_beat(points: Points) -> None:
    from compliance.beat import Beat

    real = Beat.__call__

    def call(self: Beat, progress: Any) -> bool:
        points.beating = True
        try:
            goes_on = real(self, progress)
        finally:
            points.beating = False
        if not goes_on:
            points.say(refused="beat")
        return goes_on

    put(Beat, "__call__", call)


def _wrap_child(points: Points) -> None:
    from compliance import child

    real_run, real_listen = child.run, child._listen
    real_read, real_look = child._read, child._Limits.__call__

    def run(*arguments: Any) -> Any:
        points.act("start of the child")
        result = real_run(*arguments)
        points.child = 0
        points.act("result of the child received")
        return result

    def listen(process: Forked, *arguments: Any) -> Any:
        points.child = process.pid or 0
        points.act("child started")
        points.of_child("started")
        return real_listen(process, *arguments)

    def look(limits: Any) -> None:
        if points.child:  # not while the fork server still loads
            points.looks += 1
            if points.looks == 1:
                points.of_child("request written")
            elif points.looks == LOOK_AT_WORK:
                points.act("child at work")
                points.of_child("at work")
        real_look(limits)

    def read(lines: list[bytes]) -> Any:
        for line in lines:
            if b'"progress"' in line[:12]:
                points.progress += 1
                points.of_child(f"progress {points.progress}")
            elif b'"result"' in line[:12]:
                points.of_child("result sent")
        return real_read(lines)

    put(child, "run", run)
    put(child, "_listen", listen)
    put(child, "_read", read)
    put(child._Limits, "__call__", look)


def main() -> int:
    """Install the wrappers and become the worker."""
    django.setup()
    install(Points())
    from celery.bin.celery import main as celery

    sys.argv = [str(Path(sys.executable).with_name("celery")), "--quiet", "--app=config"]
    sys.argv += os.environ["PROOF_WORKER"].split()
    return int(celery() or 0)


if __name__ == "__main__":
    sys.exit(main())
