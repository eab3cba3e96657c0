"""All benches, one after another: `python -m benchmarks`; figures in var/bench/summary.json."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHES = (
    "editing",
    "general",
    "growth",
    "growth --fixed",
    "gpu_editing",
    "unlearning",
    "evaluation",
)


def main() -> int:
    """Run every bench as a program of its own; stop at the first that fails."""
    for name in BENCHES:
        print(f"== {name}", flush=True)
        module, *options = name.split()
        command = [sys.executable, "-m", f"benchmarks.{module}", *options]
        done = subprocess.run(command, cwd=Path(__file__).parents[1], check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
