"""What the heavy child process gives up before it reads anything: the network, and endless memory.

Linux only, without privileges: a seccomp filter (seccomp(2)) that refuses every socket but local
ones, resource limits, and a signal when the parent dies. No Django.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import socket
import struct
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
SET_MODE_FILTER, ALL_THREADS = 1, 1  # SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC
RETURN_ALLOW = 0x7FFF0000
RETURN_REFUSE = 0x00050000 | errno.EACCES
# The number of seccomp, AUDIT_ARCH_*, and the numbers of socket and of io_uring_setup (which could
# open sockets as well).
ARCHITECTURES = {
    "x86_64": (317, 0xC000003E, 41, 425),
    "aarch64": (277, 0xC00000B7, 198, 425),
}
X32_CALLS = 0x40000000
# Local sockets stay: CUDA and multiprocessing talk over them, and they leave no machine.
LOCAL_FAMILIES = (socket.AF_UNIX, socket.AF_NETLINK)

LOAD, JUMP_EQUAL, JUMP_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
AT_CALL, AT_ARCHITECTURE, AT_FIRST_ARGUMENT = 0, 4, 16
NVIDIA = Path("/dev/nvidiactl")


class ConfinementError(Exception):
    """The process could not be confined, so nothing was begun."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _filter(architecture: int, socket_call: int, ring_call: int) -> bytes:
    """The filter as classic BPF (struct sock_filter: code, jump if true, if false, value)."""
    unix, netlink = LOCAL_FAMILIES
    program = [
        (LOAD, 0, 0, AT_ARCHITECTURE),
        (JUMP_EQUAL, 0, 8, architecture),  # another ABI: refuse
        (LOAD, 0, 0, AT_CALL),
        (JUMP_AT_LEAST, 6, 0, X32_CALLS),  # the x32 ABI: refuse
        (JUMP_EQUAL, 5, 0, ring_call),
        (JUMP_EQUAL, 0, 3, socket_call),  # every other call: allow
        (LOAD, 0, 0, AT_FIRST_ARGUMENT),
        (JUMP_EQUAL, 1, 0, unix),
        (JUMP_EQUAL, 0, 1, netlink),
        (RETURN, 0, 0, RETURN_ALLOW),
        (RETURN, 0, 0, RETURN_REFUSE),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in program)


def cut_network() -> None:
    """Refuse every socket but local ones, for good. Raises ConfinementError when that fails."""
    known = ARCHITECTURES.get(platform.machine())
    libc = ctypes.CDLL(None, use_errno=True)
    if known is None or not hasattr(libc, "prctl"):
        raise ConfinementError("Heavy steps run on Linux on x86_64 or aarch64 only.")
    seccomp_call, *numbers = known
    code = _filter(*numbers)
    program = _Program(len(code) // 8, code)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.syscall(seccomp_call, SET_MODE_FILTER, ALL_THREADS, ctypes.byref(program))
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
    except PermissionError:
        return
    raise ConfinementError("The network could not be cut off: this kernel refuses seccomp filters.")


def die_with_parent(parent: int) -> None:
    """Be killed when the worker dies, so that no orphan goes on for hours."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise ConfinementError("The worker ended before its step began.")


def limit_memory(limit: int) -> None:
    """Let allocations beyond `limit` bytes fail; no core files (they would hold what is worked on).

    Beside an accelerator the limit is left to the parent, which watches what is resident: CUDA
    reserves far more than it uses.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not NVIDIA.exists():
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    # When the whole machine runs out, the kernel shall choose this process, not the worker.
    Path("/proc/self/oom_score_adj").write_text("1000")


def confine(*, parent: int, memory: int) -> None:
    """All of it. Raises ConfinementError."""
    die_with_parent(parent)
    limit_memory(memory)
    cut_network()


def resident(group: int) -> int:
    """Bytes of memory that the processes of a process group hold resident."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            # proc(5): after the name come state, parent, group …; resident pages are the 24th.
            if int(fields[2]) == group:
                total += int(fields[21]) * page
    return total
