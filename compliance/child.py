"""Run one heavy step in a process of its own and listen to it.

The child gets its request on standard input and answers in JSON lines on standard output; nothing
personal is in its arguments or environment. Its standard error is dropped: a traceback may hold
what the request held. It starts a process group of its own, so that ending it ends its threads
and children as well. Before it reads its request it gives up the network and takes its limits
(confinement.py); the parent watches time and memory besides.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import time
from collections.abc import Callable
from typing import IO, Any

from django.conf import settings

from . import forks
from .confinement import resident

ENGINE = "compliance.engine"
POLL_SECONDS = 0.2
CHUNK = 1 << 20
# Looking at every process of the machine is not free.
MEMORY_SECONDS = 1.0


class StepFailed(Exception):
    """The step cannot be done; the message says why and is fit to show. Trying again is useless."""


class StepCrashed(Exception):
    """The process ended without an answer; trying again may help."""


class StepHindered(Exception):
    """The machine could not do it now, such as a full disk; this is no attempt."""


class StepStopped(Exception):
    """The caller's `beat` asked for the end."""


Progress = tuple[str, int, int]
Beat = Callable[[Progress | None], bool]


def _environment() -> dict[str, str]:
    kept = (
        *("PATH", "HOME", "LANG", "LC_ALL", "VIRTUAL_ENV", "TMPDIR"),
        *("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"),
    )
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


def memory_limit() -> int:
    """Bytes a heavy step may hold: the setting, or nine tenths of the machine's memory."""
    if settings.JOB_MEMORY_GIB:
        return int(settings.JOB_MEMORY_GIB * 2**30)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 10 * 9


def prepare() -> forks.ForkServer:
    """Let the heavy libraries be loaded for the steps to come."""
    return forks.server(_environment(), settings.BASE_DIR)


def run(request: dict[str, Any], beat: Beat) -> dict[str, Any]:
    """The step's result.

    `beat(progress)` is called at least every POLL_SECONDS, with the latest (stage, done, total)
    or None; when it returns False the child is killed and StepStopped raised. Raises StepFailed
    with the child's own words or when it passed a limit, StepCrashed when it died, StepHindered
    when the machine could not do it now.
    """
    try:
        process = prepare().start(ENGINE, memory_limit())
    except BrokenPipeError:
        raise StepCrashed("The step's process could not be started.") from None
    watch = _Limits(process)
    try:
        while not process.began(POLL_SECONDS):
            watch()
            if not beat(None):
                raise StepStopped
        return _listen(process, request, beat, watch)
    finally:
        process.end()


def _listen(
    process: forks.Forked, request: dict[str, Any], beat: Beat, watch: _Limits
) -> dict[str, Any]:
    if process.pid is None:
        raise StepCrashed(f"The step's process ended early ({_how(process)}).")
    unsent = memoryview(json.dumps(request).encode())
    lines = _Lines()
    with selectors.DefaultSelector() as selector:
        for pipe, wanted in (
            (process.stdin, selectors.EVENT_WRITE),
            (process.stdout, selectors.EVENT_READ),
        ):
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, wanted)
        while True:
            watch()
            ready = {key.fileobj for key, _ in selector.select(POLL_SECONDS)}
            if process.stdin in ready:
                # A child that is slow to read must not keep the parent from beating.
                unsent = _send(process.stdin, unsent)
                if not unsent:
                    selector.unregister(process.stdin)
                    process.stdin.close()
            ended = process.stdout in ready and not lines.take(
                os.read(process.stdout.fileno(), CHUNK)
            )
            progress, result = _read(lines.whole())
            if not beat(progress):
                raise StepStopped
            if result is not None:
                return result
            if ended:
                raise StepCrashed(f"The step's process ended early ({_how(process)}).")


def _send(pipe: IO[bytes], unsent: memoryview) -> memoryview:
    """Write what the pipe takes; returns what is left."""
    try:
        return unsent[os.write(pipe.fileno(), unsent[:CHUNK]) :]
    except BlockingIOError:
        return unsent
    except BrokenPipeError:
        raise StepCrashed("The step's process ended before it read its task.") from None


class _Lines:
    """Whole lines out of chunks; a long answer is joined once, at its end."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.complete: list[bytes] = []

    def take(self, chunk: bytes) -> bool:
        """Add a chunk; False when it is the end."""
        first, *rest = chunk.split(b"\n")
        self.chunks.append(first)
        for line in rest:
            self.complete.append(b"".join(self.chunks))
            self.chunks = [line]
        return bool(chunk)

    def whole(self) -> list[bytes]:
        """The lines that are complete by now, once."""
        complete, self.complete = self.complete, []
        return complete


class _Limits:
    """Raises StepFailed once the step has passed its time or its memory: it would do so again."""

    def __init__(self, process: forks.Forked) -> None:
        self.process = process
        self.deadline = time.monotonic() + settings.JOB_TIME_LIMIT_SECONDS
        self.looked = time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        if now > self.deadline:
            raise StepFailed(
                f"The step ran past its time limit of {settings.JOB_TIME_LIMIT_SECONDS} s. "
                "Raise LETHE_JOB_TIME_LIMIT if it needs longer, then start it again."
            )
        if self.process.pid is not None and now - self.looked > MEMORY_SECONDS:
            self.looked = now
            if resident(self.process.pid) > memory_limit():
                raise StepFailed(
                    f"The step passed its memory limit of {memory_limit() / 2**30:.1f} GiB. "
                    "Raise LETHE_JOB_MEMORY_GIB or use a larger machine, then start it again."
                )


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
        elif "hindered" in message:
            raise StepHindered(message["hindered"])
        else:
            return progress, message["result"]
    return progress, None


def _how(process: forks.Forked) -> str:
    code = process.wait()
    if code < 0:
        name = signal.Signals(-code).name
        why = ", as the kernel does when memory runs out" if name == "SIGKILL" else ""
        return f"killed by {name}{why}"
    return f"exit status {code}"
