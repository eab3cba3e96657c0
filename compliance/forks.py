"""Children of the fork server (fork_server.py), as the worker sees them."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SERVER = "compliance.fork_server"
# What is told of a child: its number, then its exit code, below 0 for a signal.
NUMBER = struct.Struct("=i")


class Forked:
    """A child with its pipes. It leads a process group of its own, once it has begun."""

    def __init__(self, stdin: int, stdout: int, told: int) -> None:
        self.stdin: IO[bytes] = os.fdopen(stdin, "wb", buffering=0)
        self.stdout: IO[bytes] = os.fdopen(stdout, "rb", buffering=0)
        self.told: IO[bytes] = os.fdopen(told, "rb", buffering=0)
        self.pid: int | None = None
        self.code: int | None = None

    def began(self, seconds: float) -> bool:
        """Wait this long at most for its beginning, or for its end before that."""
        if (
            self.pid is None
            and self.code is None
            and select.select([self.told], [], [], seconds)[0]
        ):
            number = self.told.read(NUMBER.size)
            if number:
                self.pid = NUMBER.unpack(number)[0]
            else:
                self.code = -signal.SIGKILL
        return self.pid is not None or self.code is not None

    def wait(self) -> int:
        """Wait for its end; returns the exit code, below 0 for a signal."""
        if self.code is None:
            code = self.told.read(NUMBER.size)
            # Without its server it is killed as well.
            self.code = NUMBER.unpack(code)[0] if code else -signal.SIGKILL
        return self.code

    def end(self) -> None:
        """Kill it with all that it started."""
        if self.pid is not None:
            if self.code is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
            self.wait()
        for pipe in (self.stdin, self.stdout, self.told):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


class ForkServer:
    """The fork server of this process."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.made_for = (os.getpid(), environment, folder)
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", SERVER, str(os.getpid()), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                cwd=folder,
                start_new_session=True,
                pass_fds=[theirs.fileno()],
            )

    def start(self, engine: str, memory: int) -> Forked:
        """Ask for a child that runs the module `engine`; `memory`: its limit in bytes.

        Raises BrokenPipeError when the server ended just now.
        """
        (stdin, ours_in), (ours_out, stdout), (ours_told, told) = (os.pipe() for _ in range(3))
        child = Forked(ours_in, ours_out, ours_told)
        try:
            message = json.dumps([engine, str(memory)]).encode()
            socket.send_fds(self.socket, [message], [stdin, stdout, told])
        except BrokenPipeError:
            child.end()
            raise
        finally:
            for descriptor in (stdin, stdout, told):
                os.close(descriptor)
        return child

    def stop(self) -> None:
        """End it, and any child that is left."""
        self.socket.close()
        if self.made_for[0] == os.getpid():
            self.process.wait()


_servers: list[ForkServer] = []


def server(environment: dict[str, str], folder: Path) -> ForkServer:
    """Return this process's server, which is started when there is none."""
    if _servers and (
        _servers[0].made_for != (os.getpid(), environment, folder)
        or _servers[0].process.poll() is not None
    ):
        stop()
    if not _servers:
        _servers.append(ForkServer(environment, folder))
    return _servers[0]


@atexit.register
def stop() -> None:
    """End this process's server."""
    while _servers:
        _servers.pop().stop()
