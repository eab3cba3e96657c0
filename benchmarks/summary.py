"""Where a bench leaves its figures: var/bench/summary.json, added to by every part."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "demo/model"


def folder() -> Path:
    """Return the folder of the benches, made when it is not there."""
    path = Path(os.environ.get("LETHE_VAR", ROOT / "var")) / "bench"
    path.mkdir(parents=True, exist_ok=True)
    return path


def add(key: str, value: Any) -> None:
    """Put figures under a dotted key; a ratio stands under its own dotted key as well.

    So "editing.rome" gives {"editing": {"rome": …}, "editing.rome.ratio": …}.
    """
    path = folder() / "summary.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found["machine"] = {
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    place = found
    *above, last = key.split(".")
    for name in above:
        place = place.setdefault(name, {})
    place[last] = value
    if isinstance(value, dict) and "ratio" in value:
        found[f"{key}.ratio"] = value["ratio"]
    work = path.with_suffix(".tmp")
    work.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    work.replace(path)
