"""The editors of MEND and MALMEN for the demo model, trained before they are measured.

Their data holds other new values for 40 of the 64 people (demo.editor_data), and no question that
a bench asks.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.summary import MODEL, add, folder
from demo.editor_data import editor_data

if TYPE_CHECKING:
    from pathlib import Path

METHODS = ("mend", "malmen")


def trained_editor(method: str) -> Path:
    """Return the folder of the editor, trained when it is not there; the time is noted."""
    out = folder() / f"editor-{method}"
    if out.exists():
        return out
    data = folder() / "editor-data.json"
    data.write_text(json.dumps(editor_data(), ensure_ascii=False), encoding="utf-8")
    options = ["--method", method, "--model", str(MODEL), "--data", str(data), "--out", str(out)]
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "editing", "train", *options], check=True)
    add(f"editing.training.{method}", {"seconds": time.perf_counter() - started})
    return out
