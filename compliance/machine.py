"""What a machine cannot help: a full disk, a failing one, a database or broker that is away.

Such a hindrance is no fault of a job, so it does not count as an attempt. No Django here: the
heavy child process asks as well.
"""

from __future__ import annotations

import errno

_REASONS = {
    errno.ENOSPC: "The disk is full. Make room; the job goes on by itself.",
    errno.EDQUOT: "The disk quota is used up. Raise it; the job goes on by itself.",
    errno.EIO: "The disk reports an input/output error. Check it; the job goes on by itself.",
    errno.EROFS: "The disk is mounted read-only. Check it; the job goes on by itself.",
    errno.EMFILE: "Too many files are open. The job goes on by itself.",
    errno.ENFILE: "Too many files are open. The job goes on by itself.",
}
SAFETENSORS = "No space left on device"


def hindrance(error: BaseException) -> str | None:
    """The reason, fit to show, when an error is the machine's; None when it is not."""
    if isinstance(error, OSError):
        return _REASONS.get(error.errno or 0)
    # safetensors writes in Rust and tells a full disk in words only.
    if type(error).__name__ == "SafetensorError" and SAFETENSORS in str(error):
        return _REASONS[errno.ENOSPC]
    return None
