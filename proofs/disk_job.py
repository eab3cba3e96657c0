"""Do one job once, as a worker does when it is rung for: python -m proofs.disk_job JOB.

Run inside the installation's environment, under strace or on a disk that is full.
"""

from __future__ import annotations

import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")


def main() -> int:
    """Claim and do the job, whatever becomes of it."""
    django.setup()
    from compliance import tasks

    tasks.run_job(sys.argv[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
