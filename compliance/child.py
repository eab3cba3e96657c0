"""Run one heavy step in a process of its own and listen to it.

The child gets its request on standard input and answers in JSON lines on standard output; nothing
personal is in its arguments or environment. Its standard error is dropped: a traceback may hold
what the request held. It starts a process group of its own, so that ending it ends its threads
and children as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings

POLL_SECONDS = 0.2


class StepFailed(Exception):
    """The step cannot be done; the message says why and is fit to show. Trying again is useless."""


class StepCrashed(Exception):
    """The process ended without an answer; trying again may help."""


class StepStopped(Exception):
    """The caller's `beat` asked for the end."""


Progress = tuple[str, int, int]
Beat = Callable[[Progress | None], bool]


def _environment() -> dict[str, str]:
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "VIRTUAL_ENV", "CUDA_VISIBLE_DEVICES", "TMPDIR")
    found = {name: os.environ[name] for name in kept if name in os.environ}
    return found | {
        "PYTHONPATH": str(settings.BASE_DIR),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONHASHSEED": "0",
        # Threads that spin long while they wait take the processor from the other worker's step:
        # measured on two cores, two steps at once were six times slower with the default.
        "GOMP_SPINCOUNT": "1000",
    }


def run(request: dict[str, Any], beat: Beat) -> dict[str, Any]:
    """The step's result.

    `beat(progress)` is called at least every POLL_SECONDS, with the latest (stage, done, total)
    or None; when it returns False the child is killed and StepStopped raised. Raises StepFailed
    with the child's own words, or StepCrashed when it died or ran past its time limit.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "compliance.engine"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        cwd=settings.BASE_DIR,
        start_new_session=True,
    )
    try:
        return _listen(process, request, beat)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _listen(process: subprocess.Popen, request: dict[str, Any], beat: Beat) -> dict[str, Any]:
    if process.stdin is None or process.stdout is None:
        raise StepCrashed("The step's process has no pipes.")
    try:
        process.stdin.write(json.dumps(request).encode())
        process.stdin.close()
    except BrokenPipeError:
        raise StepCrashed("The step's process ended before it read its task.") from None
    deadline = time.monotonic() + settings.JOB_TIME_LIMIT_SECONDS
    descriptor = process.stdout.fileno()
    os.set_blocking(descriptor, False)
    buffer = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while True:
            if time.monotonic() > deadline:
                raise StepCrashed("The step ran past its time limit.")
            chunk = b""
            ended = False
            if selector.select(POLL_SECONDS):
                chunk = os.read(descriptor, 1 << 20)
                ended = not chunk
            *lines, buffer = (buffer + chunk).split(b"\n")
            progress, result = _read(lines)
            if not beat(progress):
                raise StepStopped
            if result is not None:
                return result
            if ended:
                raise StepCrashed(f"The step's process ended early ({_how(process)}).")


def _read(lines: list[bytes]) -> tuple[Progress | None, dict[str, Any] | None]:
    progress: Progress | None = None
    for line in lines:
        message = json.loads(line)
        if "progress" in message:
            stage, done, total = message["progress"]
            progress = (stage, done, total)
        elif "failed" in message:
            raise StepFailed(message["failed"])
        elif "crashed" in message:
            raise StepCrashed(message["crashed"])
        else:
            return progress, message["result"]
    return progress, None


def _how(process: subprocess.Popen) -> str:
    code = process.wait()
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit status {code}"
