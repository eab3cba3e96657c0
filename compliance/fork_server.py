"""Loads the heavy libraries once and forks a child for each heavy step.

    python -m compliance.fork_server PARENT SOCKET

To load them takes some seconds, of every step. This process works on nothing and reads no request:
a forked child gets its own pipes, so what it worked on goes with it. A message on SOCKET names the
engine and its memory limit, and brings three descriptors: standard input, standard output, and
where to write the child's number and then how it ended. No Django, no database.

CUDA does not survive a fork: beside an accelerator nothing is loaded here, and each child starts
Python anew.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import selectors
import socket
import sys
from typing import NoReturn

from .confinement import NVIDIA, die_with_parent
from .forks import NUMBER

# What steps on models and documents load; a model's own classes bring most of transformers.
HEAVY = (
    "transformers.models.llama.modeling_llama",
    "transformers.models.auto.tokenization_auto",
    "editing",
    "editing.rome",
    "evaluation.asked",
    "evaluation.attacks.again",
    "unlearning",
    "reports.letter",
    "reports.report",
    "reports.verify",
)
MESSAGE = 4096


def _load() -> None:
    """What cannot be loaded is missed by the step that needs it, and told there."""
    for name in HEAVY:
        with contextlib.suppress(ImportError, OSError):
            importlib.import_module(name)


def _child(server: int, engine: str, memory: str, stdin: int, stdout: int, told: int) -> NoReturn:
    # As it was before the fork: a server that has died since must be noticed.
    parent = str(server)
    os.setsid()
    os.dup2(stdin, 0)
    os.dup2(stdout, 1)
    # Only now: who knows the number may end the whole group.
    os.write(told, NUMBER.pack(os.getpid()))
    for descriptor in (stdin, stdout, told):
        os.close(descriptor)
    if NVIDIA.exists():
        os.execv(sys.executable, [sys.executable, "-m", engine, parent, memory])  # noqa: S606
    sys.argv = [engine, parent, memory]
    runpy.run_module(engine, run_name="__main__", alter_sys=True)
    sys.exit(0)


class _Server:
    """The children that run, each by a descriptor of its process."""

    def __init__(self, asked: socket.socket) -> None:
        self.asked = asked
        self.children: dict[int, tuple[int, int]] = {}  # descriptor -> process, where to tell
        self.selector = selectors.DefaultSelector()
        self.selector.register(asked, selectors.EVENT_READ)

    def serve(self) -> None:
        """Until the parent ends."""
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is not self.asked:
                    self.end(key.fd)
                elif not self.begin():
                    return

    def begin(self) -> bool:
        """Fork as the next message says; False at the parent's end."""
        message, given, _, _ = socket.recv_fds(self.asked, MESSAGE, 3)
        if not message:
            return False
        stdin, stdout, told = given
        server = os.getpid()
        child = os.fork()
        if child == 0:
            self.selector.close()
            self.asked.close()
            for descriptor, (_, other) in self.children.items():
                os.close(descriptor)
                os.close(other)
            engine, memory = json.loads(message)
            _child(server, engine, memory, stdin, stdout, told)
        os.close(stdin)
        os.close(stdout)
        descriptor = os.pidfd_open(child)
        self.children[descriptor] = child, told
        self.selector.register(descriptor, selectors.EVENT_READ)
        return True

    def end(self, descriptor: int) -> None:
        """Tell how a child ended."""
        self.selector.unregister(descriptor)
        os.close(descriptor)
        child, told = self.children.pop(descriptor)
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
            os.write(told, NUMBER.pack(os.waitstatus_to_exitcode(status)))
        os.close(told)


def main() -> int:
    """Load, then serve."""
    die_with_parent(int(sys.argv[1]))
    if not NVIDIA.exists():
        _load()
    _Server(socket.socket(fileno=int(sys.argv[2]))).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
